#include "tools/godwitd/calibration_file.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/reflection.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "engine/base/log.h"
#include "engine/source/ram_sample.h"

namespace godwit {
namespace {

// A guest may write differently by then.
constexpr Duration kPlanHolds = std::chrono::minutes(10);
// As in the live rounds: fewer pages say more about latency than about the rate.
constexpr uint64_t kFewPages = 2048;
// Of more pages the rate varies by more than a round costs beside them: of text, 1,894 pages seemed
// to cost 39 ms.
constexpr uint64_t kSmallRound = 128;
// Fewer faults say little about one.
constexpr uint64_t kEnoughFaults = 10;
// A drain whose pages took less of their size on the wire sent most of them packed.
constexpr double kPackedWireShare = 0.75;

absl::Status write_text(const std::string& path, const std::string& text) {
    const std::string next = path + ".new";
    std::ofstream file(next, std::ios::trunc);
    file << text;
    file.close();
    if (!file) return absl::UnavailableError(fmt::format("Cannot write {}", next));
    if (std::rename(next.c_str(), path.c_str()) == 0) return absl::OkStatus();
    return errno_status(errno, fmt::format("Cannot replace {}", path));
}

double rate_of(uint64_t pages, double ms) {
    if (pages < kFewPages || !(ms > 0)) return 0;
    return static_cast<double>(pages * kPageBytes) / (ms / 1e3);
}

// R: what the first round reached, or whatever was sent at once.
double page_rate_of(const v1::MigrationReport& report) {
    if (report.rounds_size() > 0)
        return rate_of(report.rounds(0).dirty_pages(), report.rounds(0).duration_ms());
    if (report.postcopy().used())
        return rate_of(report.postcopy().missing_pages(), report.postcopy().drain_ms());
    return rate_of(report.touched_bytes() / kPageBytes, report.downtime().last_pages_ms());
}

// Whether most pages went packed: as the rounds counted them, else by what a drain took on the
// wire.
bool went_packed(const v1::MigrationReport& report) {
    const v1::PageCounts& pages = report.pages();
    const uint64_t packed = pages.lz4() + pages.zstd();
    if (pages.raw() + packed + pages.delta() > 0) return packed > pages.raw();
    const v1::Postcopy& drain = report.postcopy();
    const uint64_t content =
        drain.missing_pages() - std::min(drain.zeroed_pages(), drain.missing_pages());
    return drain.used() && static_cast<double>(report.wire_bytes()) <
                               kPackedWireShare * static_cast<double>(content * kPageBytes);
}

// What the smallest round took beside its pages, if it was small enough to tell.
std::optional<double> per_round_ms(const v1::MigrationReport& report, double page_rate) {
    const v1::Round* smallest = nullptr;
    for (const v1::Round& round : report.rounds())
        if (!round.frozen() && !round.drained() &&
            (smallest == nullptr || round.dirty_pages() < smallest->dirty_pages()))
            smallest = &round;
    if (smallest == nullptr || smallest->dirty_pages() > kSmallRound || page_rate <= 0)
        return std::nullopt;
    const auto bytes = static_cast<double>(smallest->dirty_pages() * kPageBytes);
    return std::max(smallest->duration_ms() - bytes / page_rate * 1e3, 0.0);
}

v1::FixedCosts costs_of(const v1::MigrationReport& report, double page_rate) {
    v1::FixedCosts costs;
    double rounds_ms = 0;
    for (const v1::Round& round : report.rounds())
        if (!round.frozen()) rounds_ms += round.duration_ms();
    const v1::Postcopy& drain = report.postcopy();
    costs.set_setup_ms(
        std::max(report.total_ms() - rounds_ms - report.downtime_ms() - drain.drain_ms(), 0.0));
    costs.set_pause_ms(std::max(report.downtime_ms() - report.downtime().last_pages_ms(), 0.0));
    if (const auto ms = per_round_ms(report, page_rate)) costs.set_per_round_ms(*ms);
    if (drain.used() && drain.faults() >= kEnoughFaults)
        costs.set_fault_us(drain.stall_ms() * 1e3 / static_cast<double>(drain.faults()));
    return costs;
}

std::optional<double> ratio(double actual, double expected) {
    if (!(expected > 0) || !(actual > 0)) return std::nullopt;
    return actual / expected;
}

bool is_finite(const google::protobuf::Message& message) {
    const auto& reflect = *message.GetReflection();
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    reflect.ListFields(message, &fields);
    for (const google::protobuf::FieldDescriptor* field : fields) {
        using google::protobuf::FieldDescriptor;
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE &&
            !std::isfinite(reflect.GetDouble(message, field)))
            return false;
        if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
        if (!field->is_repeated()) {
            if (!is_finite(reflect.GetMessage(message, field))) return false;
            continue;
        }
        for (int i = 0; i < reflect.FieldSize(message, field); ++i)
            if (!is_finite(reflect.GetRepeatedMessage(message, field, i))) return false;
    }
    return true;
}

bool is_of(const v1::Plan& plan, const std::string& vm, const MigrationSettings& settings) {
    return plan.vm() == vm && plan.destination() == settings.destination.to_string() &&
           plan.bandwidth_bytes_per_s() == settings.bandwidth_bytes_per_s &&
           std::abs(plan.downtime_limit_ms() - to_ms(settings.limits.downtime_limit)) < 1e-3;
}

// Where the rounds lead nowhere the plan was about what godwit migrate does by itself.
bool ends_as_planned(const v1::PlanRow& row, const ConvergenceLimits& limits) {
    if (row.strategy() != strategy_name(limits.strategy)) return false;
    const bool rounds_decide = row.rounds() > 0 && !row.converges();
    return !rounds_decide ||
           (limits.strategy == Strategy::kHybrid && limits.on_no_converge == NoConverge::kPostcopy);
}

}  // namespace

absl::StatusOr<v1::Calibration> decode_calibration(const std::string& text) {
    v1::Calibration calibration;
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    const auto parsed = google::protobuf::util::JsonStringToMessage(text, &calibration, options);
    if (!parsed.ok())
        return absl::DataLossError(fmt::format("it is damaged: {}", std::string(parsed.message())));
    if (calibration.version() != kCalibrationVersion)
        return absl::FailedPreconditionError(
            fmt::format("it is of version {}, and this agent knows {}", calibration.version(),
                        kCalibrationVersion));
    if (calibration.pairs_size() > CalibrationFile::kMostPairs)
        return absl::DataLossError("it is damaged: it has more host pairs than are kept");
    for (const v1::HostPair& pair : calibration.pairs())
        if (pair.migrations_size() > CalibrationFile::kMostMigrations)
            return absl::DataLossError("it is damaged: it has more migrations than are kept");
    if (!is_finite(calibration))
        return absl::DataLossError("it is damaged: a number in it is none");
    return calibration;
}

std::optional<v1::CalibrationEntry> calibration_entry(const v1::MigrationReport& report) {
    if (report.outcome() != v1::OUTCOME_DONE || report.engine() != "godwit") return std::nullopt;
    // Nobody could foresee how long it would be held.
    if (report.held_ms() > 0) return std::nullopt;
    v1::CalibrationEntry entry;
    entry.set_migration_id(report.migration_id());
    entry.set_vm(report.vm());
    entry.set_strategy(report.strategy());
    entry.set_started_unix_ms(report.started_unix_ms());
    *entry.mutable_predicted() = report.prediction();
    entry.set_total_ms(std::max(report.total_ms() - report.verify_ms(), 0.0));
    entry.set_downtime_ms(report.downtime_ms());
    entry.set_wire_bytes(report.wire_bytes());
    entry.set_page_rate_bytes_per_s(page_rate_of(report));
    *entry.mutable_costs() = costs_of(report, entry.page_rate_bytes_per_s());
    entry.set_packed(went_packed(report));
    entry.set_limited(report.bandwidth_bytes_per_s() > 0);
    entry.set_verified(report.verify_ms() > 0 || report.verify().pages() > 0);
    return entry;
}

PastMigration past_migration(const v1::CalibrationEntry& entry) {
    PastMigration past;
    if (entry.verified()) return past;
    const v1::FixedCosts& costs = entry.costs();
    past.setup_s = costs.setup_ms() / 1e3;
    past.pause_s = costs.pause_ms() / 1e3;
    if (costs.has_per_round_ms()) past.per_round_s = costs.per_round_ms() / 1e3;
    if (costs.has_fault_us()) past.fault_s = costs.fault_us() / 1e6;
    const v1::Prediction& predicted = entry.predicted();
    // What round 0 foresaw had no plan's measurements: another kind of error.
    if (predicted.predicted_by() != kPredictedByPlan) return past;
    past.total_error = ratio(entry.total_ms(), predicted.total_ms().mid());
    past.downtime_error = ratio(entry.downtime_ms(), predicted.downtime_ms().mid());
    past.wire_error = ratio(static_cast<double>(entry.wire_bytes()), predicted.wire_bytes().mid());
    if (!entry.limited())
        (entry.packed() ? past.packed_rate_share : past.rate_share) =
            ratio(entry.page_rate_bytes_per_s(), predicted.page_rate_bytes_per_s());
    return past;
}

void add_entry(v1::Calibration& calibration, const std::string& destination,
               const v1::CalibrationEntry& entry) {
    auto& pairs = *calibration.mutable_pairs();
    const auto found = std::find_if(pairs.begin(), pairs.end(), [&](const v1::HostPair& pair) {
        return pair.destination() == destination;
    });
    v1::HostPair pair;
    if (found != pairs.end()) {
        pair = *found;
        pairs.erase(found);
    }
    pair.set_destination(destination);
    *pair.add_migrations() = entry;
    auto& migrations = *pair.mutable_migrations();
    if (migrations.size() > CalibrationFile::kMostMigrations)
        migrations.DeleteSubrange(0, migrations.size() - CalibrationFile::kMostMigrations);
    *pairs.Add() = std::move(pair);
    if (pairs.size() > CalibrationFile::kMostPairs)
        pairs.DeleteSubrange(0, pairs.size() - CalibrationFile::kMostPairs);
}

CalibrationFile::CalibrationFile(const std::string& state_dir)
    : path_(state_dir + "/calibration.json") {
    calibration_.set_version(kCalibrationVersion);
    const std::ifstream file(path_);
    if (!file) return;
    std::stringstream text;
    text << file.rdbuf();
    absl::StatusOr<v1::Calibration> read = decode_calibration(text.str());
    if (read.ok())
        calibration_ = *std::move(read);
    else
        spdlog::warn("{} can't be used, and is begun anew: {}", path_,
                     std::string(read.status().message()));
}

void CalibrationFile::expect(const v1::Plan& plan) {
    const std::lock_guard lock(mutex_);
    expected_.push_back({plan, Clock::system().now()});
    if (expected_.size() > kMostPlans) expected_.erase(expected_.begin());
}

std::optional<v1::Prediction> CalibrationFile::take_expected(const std::string& vm,
                                                             const MigrationSettings& settings) {
    const std::lock_guard lock(mutex_);
    for (auto expected = expected_.rbegin(); expected != expected_.rend(); ++expected) {
        if (!is_of(expected->plan, vm, settings)) continue;
        const v1::Plan plan = std::move(expected->plan);
        const bool holds = Clock::system().now() - expected->at < kPlanHolds;
        expected_.erase(std::next(expected).base());
        if (!holds) return std::nullopt;
        for (const v1::PlanRow& row : plan.rows()) {
            if (!ends_as_planned(row, settings.limits)) continue;
            v1::Prediction prediction;
            prediction.set_predicted_by(kPredictedByPlan);
            *prediction.mutable_total_ms() = row.total_ms();
            *prediction.mutable_downtime_ms() = row.downtime_ms();
            *prediction.mutable_wire_bytes() = row.wire_bytes();
            const bool packed =
                (row.codec() == "lz4" && goes_packed(plan.measured().lz4_wire_share())) ||
                (row.codec() == "zstd" && goes_packed(plan.measured().zstd_wire_share()));
            const double share = packed && plan.measured().packed_rate_share() > 0
                                     ? plan.measured().packed_rate_share()
                                     : plan.measured().rate_share();
            if (share > 0)
                prediction.set_page_rate_bytes_per_s(row.page_rate_bytes_per_s() / share);
            return prediction;
        }
        return std::nullopt;
    }
    return std::nullopt;
}

void CalibrationFile::note(const v1::MigrationReport& report) {
    const std::optional<v1::CalibrationEntry> entry = calibration_entry(report);
    if (!entry) return;
    const std::lock_guard lock(mutex_);
    add_entry(calibration_, report.destination(), *entry);
    std::string text;
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    const auto printed = google::protobuf::util::MessageToJsonString(calibration_, &text, options);
    const absl::Status written = printed.ok() ? write_text(path_, text + "\n")
                                              : absl::InternalError(std::string(printed.message()));
    if (!written.ok())
        spdlog::warn("the calibration is not kept: {}", std::string(written.message()));
}

v1::Calibration CalibrationFile::history(const std::string& destination) {
    const std::lock_guard lock(mutex_);
    v1::Calibration found = calibration_;
    if (destination.empty()) return found;
    found.clear_pairs();
    for (const v1::HostPair& pair : calibration_.pairs())
        if (pair.destination() == destination) *found.add_pairs() = pair;
    return found;
}

std::vector<PastMigration> CalibrationFile::past(const std::string& destination) {
    std::vector<PastMigration> past;
    const v1::Calibration found = history(destination);
    for (const v1::HostPair& pair : found.pairs())
        for (const v1::CalibrationEntry& entry : pair.migrations())
            past.push_back(past_migration(entry));
    return past;
}

}  // namespace godwit
