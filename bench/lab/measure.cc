#include "bench/lab/measure.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kGoesOnLimit = std::chrono::seconds(20);
constexpr Duration kLookAgain = std::chrono::milliseconds(5);
constexpr Duration kLookAgainSoon = std::chrono::milliseconds(1);
constexpr Duration kCheckLimit = std::chrono::seconds(1);
constexpr uint64_t kTurnsAfterwards = 2000;

absl::StatusOr<BlackoutSampler> start_sampler(Engine& engine, const MeasureOptions& options) {
    return BlackoutSampler::start({.more = engine.ticks(), .period = options.sample_period});
}

struct Stalls {
    double total_ms = 0;
    double longest_ms = 0;
    double count = 0;
};

// Those that begin within [begin, end).
Stalls stalls_within(const std::vector<Stillness>& all, MonotonicTime begin, MonotonicTime end,
                     Duration period) {
    Stalls stalls;
    for (const Stillness& stall : all) {
        if (stall.begin < begin || stall.begin >= end) continue;
        const double length_ms = std::max(0.0, to_ms(stall.length() - period));
        stalls.total_ms += length_ms;
        stalls.longest_ms = std::max(stalls.longest_ms, length_ms);
        ++stalls.count;
    }
    return stalls;
}

// Where no source changed: rather one that a sample fell into than a hiccup of the sampler.
Stillness longest_stall(const BlackoutReport& report) {
    const auto longest = std::max_element(
        report.stalls.begin(), report.stalls.end(),
        [](const Stillness& a, const Stillness& b) { return a.length() < b.length(); });
    return longest == report.stalls.end() ? report.longest : *longest;
}

double pace(const BlackoutReport& report) {
    return static_cast<double>(report.last_tick - report.first_tick) /
           to_ms(report.last_time - report.first_time);
}

absl::StatusOr<BlackoutReport> watch_baseline(Engine& engine, const MeasureOptions& options,
                                              int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, start_sampler(engine, options));
    const absl::Status waited =
        wait_readable(-1, cancel_fd, Clock::system().now() + options.baseline);
    if (absl::IsCancelled(waited)) return waited;
    BlackoutReport report = sampler.stop();
    if (report.new_ticks < 2)
        return absl::FailedPreconditionError("the guest shows no ticks before it is moved");
    return report;
}

// The guest's own word on its memory, `when`.
absl::Status well(const Mailbox& mailbox, const char* when) {
    if (mailbox.state != static_cast<uint64_t>(GuestState::kRunning))
        return absl::DataLossError(fmt::format("the guest {}: {}", when, mailbox.message));
    const MailboxVcpu& vcpu = mailbox.vcpus[0];
    if (vcpu.errors == 0) return absl::OkStatus();
    return absl::DataLossError(
        fmt::format("the guest found {} bad pages {}: the first is {}, kind {}", vcpu.errors, when,
                    vcpu.first_bad_page, vcpu.first_bad_kind));
}

// It makes turns, and is left to check pages (it checks each that it writes) until it has written
// as many as it has, or for kCheckLimit.
absl::Status goes_on(Engine& engine, uint64_t last_tick, int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox first, reader.read());
    const MonotonicTime begin = Clock::system().now();
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
        GODWIT_RETURN_IF_ERROR(well(mailbox, "after the move"));
        const MailboxVcpu& vcpu = mailbox.vcpus[0];
        const Duration elapsed = Clock::system().now() - begin;
        const bool checked = vcpu.checked >= first.vcpus[0].checked + mailbox.ws_pages;
        if (vcpu.tick > last_tick + kTurnsAfterwards && (checked || elapsed > kCheckLimit))
            return absl::OkStatus();
        if (elapsed > kGoesOnLimit)
            return absl::DeadlineExceededError(fmt::format(
                "the guest does not go on after the move: tick {} was seen, it is at {}", last_tick,
                vcpu.tick));
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + kLookAgain);
        if (absl::IsCancelled(waited)) return waited;
    }
}

// Waits until it was seen to run where it is now, so that what the sampler saw ends with that.
absl::Status ticks_there(Engine& engine, int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox first, reader.read());
    const MonotonicTime deadline = Clock::system().now() + kGoesOnLimit;
    while (Clock::system().now() < deadline) {
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + kLookAgainSoon);
        if (absl::IsCancelled(waited)) return waited;
        GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
        if (mailbox.vcpus[0].tick > first.vcpus[0].tick) return absl::OkStatus();
    }
    return absl::DeadlineExceededError("the guest does not run after the move");
}

absl::Status well_before(Engine& engine) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    return well(mailbox, "before the move");
}

}  // namespace

Metrics stall_metrics(const BlackoutReport& report, std::chrono::nanoseconds period,
                      double ticks_per_ms) {
    const Stillness handover = report.handover ? *report.handover : longest_stall(report);
    const MonotonicTime cut = handover.begin;
    const Stalls live = stalls_within(report.stalls, MonotonicTime::min(), cut, period);
    const Stalls after = stalls_within(report.stalls, cut, MonotonicTime::max(), period);
    return {
        {"blackout_ms", to_ms(handover.length())},
        {"stall_ms", after.total_ms},
        {"longest_stall_ms", after.longest_ms},
        {"stalls", after.count},
        {"lost_ms", lost_ms(to_ms(report.last_time - cut),
                            static_cast<double>(report.last_tick - handover.tick), ticks_per_ms)},
        {"live_stall_ms", live.total_ms},
        {"live_longest_ms", live.longest_ms},
        {"live_lost_ms",
         lost_ms(to_ms(cut - report.first_time),
                 static_cast<double>(handover.tick - report.first_tick), ticks_per_ms)}};
}

absl::StatusOr<Metrics> measure(Engine& engine, const MeasureOptions& options, int cancel_fd) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const BlackoutReport before,
                            watch_baseline(engine, options, cancel_fd));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, start_sampler(engine, options));
    auto metrics = engine.move();
    const absl::Status runs = metrics.ok() ? ticks_there(engine, cancel_fd) : absl::OkStatus();
    const BlackoutReport during = sampler.stop();
    if (!metrics.ok()) return metrics.status();
    GODWIT_RETURN_IF_ERROR(runs);
    GODWIT_ASSIGN_OR_RETURN(const Metrics details, engine.details());
    GODWIT_RETURN_IF_ERROR(goes_on(engine, during.last_tick, cancel_fd));

    metrics->insert(details.begin(), details.end());
    const double ticks_per_ms = pace(before);
    metrics->merge(stall_metrics(during, options.sample_period, ticks_per_ms));
    (*metrics)["sample_gap_ms"] = to_ms(Duration(during.longest_sample_gap_ns));
    (*metrics)["before_ticks_per_ms"] = ticks_per_ms;
    const Stalls calm = stalls_within(before.stalls, MonotonicTime::min(), MonotonicTime::max(),
                                      options.sample_period);
    (*metrics)["before_stall_ms_per_s"] =
        1e3 * calm.total_ms / to_ms(before.last_time - before.first_time);
    return metrics;
}

}  // namespace godwit
