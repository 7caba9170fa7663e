#include "tools/godwitd/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "engine/source/round_forecast.h"
#include "tools/godwitd/dirty_rate.h"
#include "tools/godwitd/dirty_windows.h"
#include "tools/godwitd/tracker_choice.h"
#include "tools/godwitd/vcpu_time.h"
#include "transport/codec/codec_governor.h"

namespace godwit {
namespace {

constexpr double kGiB = 1 << 30;
constexpr double kPageSize = static_cast<double>(kPageBytes);
// A limiter that lets this part of its rate through is what the link is worth.
constexpr double kLimiterHolds = 0.8;
// Of a stream: two buffers and the socket (engine/source/streams.h).
constexpr double kReadAheadChunks = 2;
constexpr double kReadAheadPages = 256;

// A guest whose vCPUs ran for this part of the time never rests: it writes as fast as it is let.
// Then the first write to an armed page costs it this (seen under nested virtualisation, 16 of the
// 23 us that it took for a page; the model bounds it by the guest's own rate).
constexpr double kNeverRests = 0.9;
constexpr double kFirstWrite_s = 16e-6;

double usable_rate(double bytes_per_s) { return std::clamp(bytes_per_s, kLeastRate, kMostRate); }

// A stream reads (and packs) one frame while the one before it is on its way to a destination that
// receives it (and unpacks it): the slower of the two is what it manages.
double stream_page_rate(double source_s_per_byte, double destination_s_per_byte, double share) {
    const double slower = std::max(source_s_per_byte, destination_s_per_byte);
    return usable_rate(slower > 0 ? share / slower : kMostRate);
}

// What the codec governor would choose from, with its own rule for what is nearly equal.
std::vector<CodecOption> codecs_of(const PlanFacts& facts, const PairKnowledge& knowledge) {
    const RamSample& ram = facts.ram;
    const double rate_share = knowledge.rate_share;
    const double content = 1 - ram.zero_share;
    const double wire_s = 1 / usable_rate(facts.link.stream_rate);
    const auto packed = [&](std::string name, PageCodec codec, const RamSample::Packing& packing) {
        const double pack = content * packing.pack_cpu_s_per_byte;
        const double unpack = content * packing.unpack_cpu_s_per_byte;
        const double wire_share = content * packing.wire_share;
        return CodecOption{
            .name = std::move(name),
            .wire_share = wire_share,
            .stream_page_rate = stream_page_rate(ram.read_cpu_s_per_byte + pack,
                                                 wire_share * wire_s + unpack, rate_share),
            .cpu_s_per_page_byte = ram.read_cpu_s_per_byte + pack + unpack,
            .rate_share =
                goes_packed(packing.wire_share) ? knowledge.packed_rate_share / rate_share : 1,
            .least_gain = CodecGovernor::least_gain(codec)};
    };
    return {{.name = "raw",
             .wire_share = content,
             .stream_page_rate =
                 stream_page_rate(ram.read_cpu_s_per_byte, content * wire_s, rate_share),
             .cpu_s_per_page_byte = ram.read_cpu_s_per_byte},
            packed("lz4", PageCodec::kLz4, ram.lz4),
            packed("zstd", PageCodec::kZstd, ram.zstd)};
}

Interval link_rate(const LinkProbe& link, double share, Bytes bandwidth) {
    const auto limit = static_cast<double>(bandwidth);
    if (bandwidth > 0 && link.rate.mid >= kLimiterHolds * limit) return exactly(usable_rate(limit));
    const auto reached = [&](double rate) {
        const double most = usable_rate(rate * share);
        return bandwidth > 0 ? std::min(most, usable_rate(limit)) : most;
    };
    return {.low = reached(link.rate.low),
            .mid = reached(link.rate.mid),
            .high = reached(link.rate.high)};
}

std::string_view end_word(NextStep end) {
    switch (end) {
        case NextStep::kSwitch:
            return "the rest fits the pause";
        case NextStep::kStopAndCopy:
            return "all is sent in the pause";
        case NextStep::kPostcopy:
            return "the rest follows after the resume";
        case NextStep::kGiveUp:
            return "it gives up";
        case NextStep::kRound:
        case NextStep::kSettlingRound:
        case NextStep::kThrottle:
            break;
    }
    return "";
}

v1::PlanRow row_of(const PlanRow& row) {
    const Forecast& forecast = row.forecast;
    v1::PlanRow made;
    made.set_strategy(std::string(strategy_word(forecast.strategy)));
    made.set_codec(row.codec);
    made.set_streams(row.streams);
    made.set_converges(forecast.converges);
    made.set_rounds(forecast.rounds);
    *made.mutable_total_ms() = in_proto(forecast.total_s, 1e3);
    *made.mutable_downtime_ms() = in_proto(forecast.downtime_s, 1e3);
    *made.mutable_page_bytes() = in_proto(forecast.page_bytes);
    *made.mutable_wire_bytes() = in_proto(forecast.wire_bytes);
    *made.mutable_cpu_s() = in_proto(forecast.cpu_s);
    *made.mutable_faults() = in_proto(forecast.faults);
    made.set_holds(row.holds);
    made.set_verdict(row.verdict);
    made.set_end(fmt::format("{}: {}", end_word(forecast.end), forecast.reason));
    made.set_choice(row.choice);
    made.set_page_rate_bytes_per_s(row.page_rate);
    return made;
}

double cpu_s_per_gib(const RamSample::Packing& packing) {
    return (packing.pack_cpu_s_per_byte + packing.unpack_cpu_s_per_byte) * kGiB;
}

void fill_measured(const PlanFacts& facts, const PairKnowledge& knowledge,
                   v1::PlanMeasurements& measured) {
    const RamSample& ram = facts.ram;
    const LinkProbe& link = facts.link;
    measured.set_vcpu_busy_share(facts.vcpu_busy_share);
    measured.set_touched_bytes(ram.touched_pages * kPageBytes);
    for (const DirtySample& sample : facts.samples) {
        v1::DirtyWindow& window = *measured.add_windows();
        window.set_window_ms(sample.window_s * 1e3);
        window.set_dirty_pages(static_cast<uint64_t>(sample.pages));
    }
    measured.set_zero_share(ram.zero_share);
    measured.set_lz4_wire_share(ram.lz4.wire_share);
    measured.set_zstd_wire_share(ram.zstd.wire_share);
    measured.set_read_cpu_s_per_gib(ram.read_cpu_s_per_byte * kGiB);
    measured.set_lz4_cpu_s_per_gib(cpu_s_per_gib(ram.lz4));
    measured.set_zstd_cpu_s_per_gib(cpu_s_per_gib(ram.zstd));
    measured.set_wire_cpu_s_per_gib(link.cpu_s_per_wire_byte * kGiB);
    *measured.mutable_link_bytes_per_s() = in_proto(link.rate);
    measured.set_stream_bytes_per_s(link.stream_rate);
    measured.set_link_streams(link.streams);
    measured.set_round_trip_ms(link.round_trip_s * 1e3);
    v1::FixedCosts& costs = *measured.mutable_costs();
    costs.set_setup_ms(knowledge.costs.setup_s * 1e3);
    costs.set_per_round_ms(knowledge.costs.per_round_s * 1e3);
    costs.set_pause_ms(knowledge.costs.pause_s * 1e3);
    costs.set_fault_us(knowledge.costs.fault_s * 1e6);
    measured.set_costs_from_migrations(knowledge.migrations);
    measured.set_rate_share(knowledge.rate_share);
    measured.set_packed_rate_share(knowledge.packed_rate_share);
}

// Without limits to hold there is an answer in any case: what `godwit migrate` does by itself.
void fill_choice(const Plan& plan, const PlanSettings& settings, v1::Plan& answer) {
    constexpr std::string_view kYes = "yes: ";
    answer.set_sentence(plan.sentence);
    if (plan.chosen)
        answer.set_chosen(std::string(strategy_word(plan.rows[*plan.chosen].forecast.strategy)));
    if (settings.limits_given) return;
    if (plan.chosen) {
        answer.set_sentence(plan.sentence.substr(kYes.size()));
        return;
    }
    answer.set_chosen(std::string(strategy_word(Strategy::kHybrid)));
    for (const PlanRow& row : plan.rows)
        if (row.forecast.strategy == Strategy::kHybrid)
            answer.set_sentence(fmt::format(
                "hybrid with {} on {} streams, though nothing keeps the "
                "pause within {:.0f} ms for sure: {}",
                row.codec, row.streams, to_ms(settings.limits.downtime_limit), row.verdict));
}

absl::Status watch_writes(Vm& vm, const PlanSettings& settings, const PlanContext& context,
                          PlanFacts& facts, v1::PlanMeasurements& measured) {
    GODWIT_ASSIGN_OR_RETURN(const TrackerChoice choice, choose_tracker(vm, settings.tracker));
    PageSet empty;
    for (const RamBlock& block : vm.ram_blocks()) empty.emplace_back(block.page_count());
    GODWIT_RETURN_IF_ERROR(choice.tracker->start());
    measured.set_tracker(std::string(choice.tracker->name()));
    measured.set_tracker_reason(choice.tracker->reason());
    facts.rearms_as_read = choice.tracker->rearms_as_read();
    absl::StatusOr<std::vector<DirtySample>> samples = sample_dirty_windows(
        *choice.tracker, empty, settings.sample,
        [&](MonotonicTime moment) { return watch_until(vm, moment, context.cancelled); });
    const absl::Status stopped = choice.tracker->stop();
    GODWIT_RETURN_IF_ERROR(samples.status());
    GODWIT_RETURN_IF_ERROR(stopped);
    facts.samples = *std::move(samples);
    return absl::OkStatus();
}

// The part of the vCPUs' time that they ran for since it was made. Where that can't be told, they
// are taken to rest.
class VcpuWatch {
  public:
    explicit VcpuWatch(Vm& vm) : pid_(vm.pid()), threads_(vm.vcpu_threads()), before_s_(used_s()) {}
    [[nodiscard]] double busy_share() const {
        const absl::StatusOr<double> after_s = used_s();
        const double watched_s = to_seconds(Clock::system().now() - began_);
        if (!before_s_.ok() || !after_s.ok() || threads_->empty() || watched_s <= 0) return 0;
        return (*after_s - *before_s_) / (watched_s * static_cast<double>(threads_->size()));
    }

    [[nodiscard]] uint32_t count() const {
        return threads_.ok() ? static_cast<uint32_t>(threads_->size()) : 1;
    }

  private:
    [[nodiscard]] absl::StatusOr<double> used_s() const {
        if (!threads_.ok()) return threads_.status();
        return threads_cpu_s(pid_, *threads_);
    }

    const pid_t pid_;
    const absl::StatusOr<std::vector<pid_t>> threads_;
    const absl::StatusOr<double> before_s_;
    const MonotonicTime began_ = Clock::system().now();
};

// That of the largest block.
Backing backing_of(std::span<const RamBlock> blocks) {
    const auto largest =
        std::max_element(blocks.begin(), blocks.end(),
                         [](const RamBlock& a, const RamBlock& b) { return a.size < b.size; });
    return largest == blocks.end() ? Backing::kTmpfs4k : largest->backing;
}

absl::StatusOr<RunState> check_vm(Vm& vm) {
    GODWIT_ASSIGN_OR_RETURN(const RunState state, vm.run_state());
    if (state != RunState::kRunning && state != RunState::kPaused)
        return absl::FailedPreconditionError(
            fmt::format("VM {} neither runs nor is paused", vm.spec().name()));
    GODWIT_ASSIGN_OR_RETURN(const std::vector<std::string> blockers, vm.migration_blockers());
    if (!blockers.empty())
        return absl::FailedPreconditionError(
            fmt::format("QEMU can't migrate this VM: {}", fmt::join(blockers, "; ")));
    return state;
}

}  // namespace

// Medians of 40 migrations of a 512 MiB guest, ten of each strategy, between two agents on one busy
// 2-CPU host, so without a network: 212 ms beside the rounds, 0.1 ms a round, 14.6 ms of pause
// without pages, 97 us a fault. The network adds its round trips: three calls and two connections
// before round 0; a marker and its answer; the last marker, device state, COMMIT; a fault.
MigrationCosts default_costs(const LinkProbe& link) {
    return {.setup_s = 0.212 + 5 * link.round_trip_s,
            .per_round_s = 0.0001 + link.round_trip_s,
            .pause_s = 0.0146 + 3 * link.round_trip_s,
            .fault_s = 97e-6 + link.round_trip_s,
            .cpu_s_per_wire_byte = link.cpu_s_per_wire_byte};
}

PlanInput plan_input(const PlanFacts& facts, const PairKnowledge& knowledge,
                     const PlanSettings& settings) {
    const uint32_t most_streams = std::min({facts.link.streams, std::max(facts.source_cpus, 1U),
                                            std::max(facts.link.destination_cpus, 1U)});
    return {
        .samples = facts.samples,
        .touched_pages = static_cast<double>(facts.ram.touched_pages),
        .link_rate = link_rate(facts.link, knowledge.rate_share, settings.bandwidth_bytes_per_s),
        .codecs = codecs_of(facts, knowledge),
        .max_streams = std::max(most_streams, 1U),
        .source_cpus = facts.source_cpus,
        .busy_vcpus = std::clamp(facts.vcpu_busy_share, 0.0, 1.0) * facts.vcpus,
        .zero_share = std::clamp(facts.ram.zero_share, 0.0, 1.0),
        .read_ahead_chunks = kReadAheadChunks,
        .read_ahead_pages = kReadAheadPages,
        .rearms_as_read = facts.rearms_as_read,
        .first_write_s = facts.vcpu_busy_share >= kNeverRests ? kFirstWrite_s : 0,
        .backing = facts.backing,
        .costs = knowledge.costs,
        .limits = settings.limits,
        .finish_by_s = to_seconds(settings.finish_by),
        .errors = knowledge.errors};
}

absl::Status fill_plan(const PlanFacts& facts, const std::vector<PastMigration>& past,
                       const PlanSettings& settings, v1::Plan& answer) {
    const PairKnowledge knowledge = learn_from(past, default_costs(facts.link));
    fill_measured(facts, knowledge, *answer.mutable_measured());
    GODWIT_ASSIGN_OR_RETURN(const Plan plan, make_plan(plan_input(facts, knowledge, settings)));
    for (const PlanRow& row : plan.rows) *answer.add_rows() = row_of(row);
    fill_choice(plan, settings, answer);
    return absl::OkStatus();
}

absl::StatusOr<v1::Plan> plan_migration(Vm& vm, const PlanSettings& settings,
                                        const PlanContext& context) {
    GODWIT_ASSIGN_OR_RETURN(const RunState state, check_vm(vm));
    v1::Plan answer;
    answer.set_vm(vm.spec().name());
    answer.set_source(context.source);
    answer.set_destination(settings.destination.to_string());
    answer.set_downtime_limit_ms(to_ms(settings.limits.downtime_limit));
    answer.set_finish_by_ms(to_ms(settings.finish_by));
    answer.set_bandwidth_bytes_per_s(settings.bandwidth_bytes_per_s);
    answer.set_limits_given(settings.limits_given);
    if (state == RunState::kPaused)
        answer.add_notes("the VM is paused: it writes nothing, and would after it was resumed");
    PlanFacts facts{.backing = backing_of(vm.ram_blocks()),
                    .source_cpus = std::thread::hardware_concurrency()};
    // First what fails at once where it fails, and what would disturb the rest.
    GODWIT_ASSIGN_OR_RETURN(
        facts.link,
        probe_link(settings.destination, {.tcp = {.ring = context.ring},
                                          .placement = context.placement,
                                          .bandwidth_bytes_per_s = settings.bandwidth_bytes_per_s,
                                          .cancelled = context.cancelled}));
    GODWIT_ASSIGN_OR_RETURN(facts.ram, sample_ram(vm.ram_blocks()));
    const VcpuWatch vcpus(vm);
    GODWIT_RETURN_IF_ERROR(watch_writes(vm, settings, context, facts, *answer.mutable_measured()));
    facts.vcpu_busy_share = vcpus.busy_share();
    facts.vcpus = vcpus.count();
    GODWIT_RETURN_IF_ERROR(fill_plan(facts, context.past, settings, answer));
    return answer;
}

}  // namespace godwit
