#include "tools/godwit/fleet_plan.h"

#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/guest/vm_file/uuid.h"
#include "engine/model/calibration.h"
#include "engine/model/schedule.h"

namespace godwit {
namespace {

constexpr double kAssumedLink = 10e9 / 8;
// A round that says something about the link.
constexpr Bytes kTellingBytes = Bytes{16} << 20;
constexpr size_t kTellingMigrations = 10;
// Of a destination's QEMU that starts, a round's confirmation, a pause without pages: as godwit-sim
// has them; where nothing is known.
constexpr MigrationCosts kUsualCosts{.setup_s = 0.1, .per_round_s = 0.002, .pause_s = 0.008};

double fastest_round(const v1::MigrationReport& report) {
    double fastest = 0;
    for (const v1::Round& round : report.rounds())
        if (round.sent_bytes() >= kTellingBytes)
            fastest = std::max(fastest, round.wire_bytes_per_s());
    return fastest;
}

// As the agent reads the request.
ConvergenceLimits limits_of(const v1::MigrateRequest& request) {
    ConvergenceLimits limits{.strategy = Strategy::kHybrid};
    for (const Strategy strategy :
         {Strategy::kStopAndCopy, Strategy::kPrecopy, Strategy::kPostcopy})
        if (strategy_word(strategy) == request.strategy()) limits.strategy = strategy;
    switch (request.on_no_converge()) {
        case v1::ON_NO_CONVERGE_STOP_AND_COPY:
            limits.on_no_converge = NoConverge::kStopAndCopy;
            break;
        case v1::ON_NO_CONVERGE_POSTCOPY:
            limits.on_no_converge = NoConverge::kPostcopy;
            break;
        case v1::ON_NO_CONVERGE_THROTTLE:
            limits.on_no_converge = NoConverge::kThrottle;
            break;
        case v1::ON_NO_CONVERGE_FAIL:
            break;
        default:
            if (limits.strategy == Strategy::kHybrid) limits.on_no_converge = NoConverge::kPostcopy;
    }
    if (request.downtime_limit_us() > 0)
        limits.downtime_limit = std::chrono::microseconds(request.downtime_limit_us());
    limits.threshold = request.threshold_bytes();
    if (request.max_rounds() > 0) limits.max_rounds = request.max_rounds();
    if (limits.on_no_converge == NoConverge::kThrottle) limits.max_data = 10;
    if (request.max_data() > 0) limits.max_data = request.max_data();
    return limits;
}

SimulatedVm simulated(const FleetSample& sample, const v1::MigrateRequest& request,
                      const MigrationCosts& costs) {
    const Bytes touched = sample.rate.ok() ? sample.rate->touched_bytes() : sample.memory_bytes;
    // One that touches nothing takes its fixed costs all the same.
    const uint64_t touched_pages = std::max<uint64_t>(touched / kPageBytes, 1);
    SimulatedVm vm{
        .touched_pages = static_cast<double>(touched_pages),
        .costs = costs,
        .limits = limits_of(request),
        .finish_by_s = std::min(static_cast<double>(request.finish_by_ms()) / 1e3, kLongestTime_s)};
    DirtyCurve curve;
    if (sample.rate.ok()) {
        std::vector<DirtySample> points;
        for (const v1::DirtyRatePoint& point : sample.rate->points())
            points.push_back({.window_s = point.window_ms() / 1e3,
                              .pages = static_cast<double>(point.dirty_pages())});
        if (const auto curves = fit_dirty_curves(points, vm.touched_pages); curves.ok())
            curve = curves->mid;
    }
    vm.writer = curve_writer(std::move(curve));
    return vm;
}

std::string all_left_out(const std::vector<LeftOut>& left_out) {
    return absl::StrJoin(left_out, ", ", [](std::string* text, const LeftOut& one) {
        text->append(left_out_text(one));
    });
}

// The name of the VM that `asked` names, or whose UUID it is; empty: there is none.
std::string name_of_vm(const std::string& asked, const v1::ListVmsResponse& vms) {
    for (const v1::VmInfo& vm : vms.vms())
        if (vm.spec().name() == asked) return asked;
    const std::string digits = uuid_digits(asked);
    for (const v1::VmInfo& vm : vms.vms())
        if (!digits.empty() && uuid_digits(vm.spec().uuid()) == digits) return vm.spec().name();
    return {};
}

absl::StatusOr<FleetVms> named_fleet(const std::vector<std::string>& asked,
                                     const v1::ListVmsResponse& vms) {
    FleetVms fleet;
    std::vector<std::string> unknown;
    std::map<std::string, std::string> asked_as;  // by name
    for (const std::string& one : asked) {
        const std::string name = name_of_vm(one, vms);
        if (name.empty()) {
            unknown.push_back(one);
            continue;
        }
        if (const auto [before, is_new] = asked_as.try_emplace(name, one); !is_new)
            return absl::InvalidArgumentError(
                fmt::format("--vms: {} and {} are one VM, {}; nothing was begun: name it once",
                            before->second, one, name));
        fleet.names.push_back(name);
    }
    if (unknown.empty()) return fleet;
    return absl::NotFoundError(
        fmt::format("This agent has no VM {}; nothing was begun: see godwit vm list",
                    absl::StrJoin(unknown, ", ")));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> parse_vm_names(const std::string& text) {
    std::vector<std::string> names;
    std::set<std::string> seen;
    for (std::string name : std::vector<std::string>(absl::StrSplit(text, ','))) {
        absl::StripAsciiWhitespace(&name);
        if (name.empty())
            return absl::InvalidArgumentError("--vms: a name is missing; write it as web,db,mail");
        if (!seen.insert(name).second)
            return absl::InvalidArgumentError(fmt::format("--vms: {} is there twice", name));
        names.push_back(name);
    }
    if (names.size() > kMostOfFleet)
        return absl::InvalidArgumentError(
            fmt::format("--vms: at most {} at once, not {}", kMostOfFleet, names.size()));
    return names;
}

std::string left_out_text(const LeftOut& one) {
    return fmt::format("{} is in use by {}", one.vm, one.holder);
}

absl::StatusOr<FleetVms> choose_fleet(const std::vector<std::string>& asked,
                                      const v1::ListVmsResponse& vms) {
    if (!asked.empty()) return named_fleet(asked, vms);
    FleetVms fleet;
    for (const v1::VmInfo& vm : vms.vms()) {
        const std::string& name = vm.spec().name();
        if (vm.migration_id().empty())
            fleet.names.push_back(name);
        else
            fleet.left_out.push_back({name, vm.migration_id()});
    }
    if (fleet.names.empty())
        return absl::NotFoundError(
            fleet.left_out.empty()
                ? "--all: this agent has no VM"
                : fmt::format("--all: no VM is free: {}", all_left_out(fleet.left_out)));
    if (fleet.names.size() > kMostOfFleet)
        return absl::InvalidArgumentError(fmt::format("--all: {} VMs; name at most {} with --vms",
                                                      fleet.names.size(), kMostOfFleet));
    return fleet;
}

LinkGuess guess_link(const v1::MigrateRequest& request, const v1::ListMigrationsResponse& past) {
    if (request.bandwidth_bytes_per_s() > 0)
        return {.bytes_per_s = static_cast<double>(request.bandwidth_bytes_per_s()),
                .source = "the limit"};
    std::vector<const v1::MigrationReport*> there;
    for (const v1::MigrationReport& report : past.migrations())
        if (report.destination() == request.destination() && report.bandwidth_bytes_per_s() == 0 &&
            report.outcome() == v1::OUTCOME_DONE && fastest_round(report) >= kLeastRate)
            there.push_back(&report);
    std::sort(there.begin(), there.end(), [](const auto* a, const auto* b) {
        return a->started_unix_ms() > b->started_unix_ms();
    });
    there.resize(std::min(there.size(), kTellingMigrations));
    const auto fastest = std::max_element(
        there.begin(), there.end(),
        [](const auto* a, const auto* b) { return fastest_round(*a) < fastest_round(*b); });
    if (fastest != there.end())
        return {.bytes_per_s = std::min(fastest_round(**fastest), kMostRate),
                .source = "as migration " + (*fastest)->migration_id() + " had it"};
    return {.bytes_per_s = kAssumedLink, .source = "assumed"};
}

MigrationCosts usual_costs(const v1::Calibration& past) {
    std::vector<PastMigration> known;
    for (const v1::HostPair& pair : past.pairs())
        for (const v1::CalibrationEntry& entry : pair.migrations()) {
            if (entry.verified()) continue;  // comparing takes its time
            PastMigration migration{.setup_s = entry.costs().setup_ms() / 1e3,
                                    .pause_s = entry.costs().pause_ms() / 1e3};
            if (entry.costs().has_per_round_ms())
                migration.per_round_s = entry.costs().per_round_ms() / 1e3;
            known.push_back(migration);
        }
    return learn_from(known, kUsualCosts).costs;
}

FleetOrder plain_order(const std::vector<std::string>& vms, bool serial, uint32_t parallel) {
    const uint32_t most = serial ? 1 : parallel > 0 ? parallel : kMostAtATime;
    FleetOrder order{.vms = vms,
                     .at_a_time = static_cast<uint32_t>(std::min<size_t>(vms.size(), most))};
    order.reason = fmt::format("{} at a time, in the order given", order.at_a_time);
    return order;
}

absl::StatusOr<FleetOrder> gang_order(const FleetVms& fleet) {
    const size_t count = fleet.names.size();
    if (!fleet.left_out.empty())
        return absl::FailedPreconditionError(fmt::format(
            "--gang: {}, and they belong together: nothing was begun; wait for it, or name those "
            "that are to go with --vms",
            all_left_out(fleet.left_out)));
    if (count > kMostAtATime)
        return absl::InvalidArgumentError(fmt::format(
            "--gang: {} VMs; an agent moves at most {} at a time: name fewer with --vms", count,
            kMostAtATime));
    return FleetOrder{.vms = fleet.names,
                      .at_a_time = static_cast<uint32_t>(count),
                      .reason = fmt::format("{} at once, or none", count),
                      .is_gang = true};
}

absl::StatusOr<FleetOrder> auto_order(std::span<const FleetSample> samples,
                                      const v1::MigrateRequest& request, const LinkGuess& link,
                                      const MigrationCosts& costs, uint32_t parallel,
                                      const std::optional<std::string>& first) {
    std::vector<SimulatedVm> vms;
    std::optional<uint32_t> under_way;
    vms.reserve(samples.size());
    for (const FleetSample& sample : samples) {
        if (first && sample.vm == *first) under_way = static_cast<uint32_t>(vms.size());
        vms.push_back(simulated(sample, request, costs));
    }
    if (first && !under_way) return absl::NotFoundError("No VM is called " + *first);
    GODWIT_ASSIGN_OR_RETURN(
        const Schedule schedule,
        auto_schedule(vms, link.bytes_per_s, parallel > 0 ? parallel : kMostAtATime, under_way));
    FleetOrder order{.at_a_time = schedule.at_a_time, .expected_s = schedule.total_s};
    for (const uint32_t index : schedule.order) order.vms.push_back(samples[index].vm);
    order.reason = fmt::format("{} at a time; {:.1f} s expected at {}/s ({})", order.at_a_time,
                               schedule.total_s, format_bytes(static_cast<Bytes>(link.bytes_per_s)),
                               link.source);
    if (schedule.missed_limits > 0)
        order.reason +=
            fmt::format("; {} not expected to keep the downtime limit", schedule.missed_limits);
    return order;
}

}  // namespace godwit
