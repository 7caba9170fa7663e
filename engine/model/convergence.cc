#include "engine/model/convergence.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {
namespace {

Duration time_for(uint64_t pages, double bytes_per_second) {
    if (pages == 0) return Duration::zero();
    if (bytes_per_second <= 0) return std::chrono::hours(24);
    const double seconds = static_cast<double>(pages * kPageBytes) / bytes_per_second;
    return Duration(static_cast<int64_t>(std::min(seconds, 86400.0) * 1e9));
}

std::string within(Duration expected, Duration limit) {
    return fmt::format("expected downtime {:.1f} ms, limit {:.1f} ms", to_ms(expected),
                       to_ms(limit));
}

NextStep at_limit(const ConvergenceLimits& limits) {
    return limits.stop_and_copy ? NextStep::kStopAndCopy : NextStep::kGiveUp;
}

}  // namespace

Decision decide(const RoundObservation& seen, const ConvergenceLimits& limits) {
    Decision decision;
    const double seconds = std::max(std::chrono::duration<double>(seen.duration).count(), 1e-6);
    decision.dirty_pages_per_s = static_cast<double>(seen.dirty_pages) / seconds;
    if (seen.page_rate > 0)
        decision.r = static_cast<double>(kPageBytes) * decision.dirty_pages_per_s / seen.page_rate;

    const Duration changed = seen.fixed_cost + time_for(seen.dirty_pages, seen.page_rate);
    const uint64_t only_unsettled =
        seen.unsettled_pages - std::min(seen.unsettled_pages, seen.dirty_pages);
    decision.expected_downtime = changed + time_for(only_unsettled, seen.check_rate);

    const Bytes rest = (seen.dirty_pages + only_unsettled) * kPageBytes;
    if (limits.threshold > 0 && rest <= limits.threshold) {
        decision.step = NextStep::kSwitch;
        decision.reason = fmt::format("{} left, threshold {}", format_bytes(rest),
                                      format_bytes(limits.threshold));
    } else if (decision.expected_downtime <= limits.downtime_limit) {
        decision.step = NextStep::kSwitch;
        decision.reason = within(decision.expected_downtime, limits.downtime_limit);
    } else if (seen.rounds_done >= limits.max_rounds) {
        decision.step = at_limit(limits);
        decision.reason =
            fmt::format("no convergence in {} rounds: {}, r = {:.2f}", seen.rounds_done,
                        within(decision.expected_downtime, limits.downtime_limit), decision.r);
    } else if (static_cast<double>(seen.total_page_bytes) >
               limits.max_data * static_cast<double>(seen.touched)) {
        decision.step = at_limit(limits);
        decision.reason = fmt::format(
            "no convergence within {:.1f} times the touched RAM: {}, r = {:.2f}", limits.max_data,
            within(decision.expected_downtime, limits.downtime_limit), decision.r);
    } else if (changed <= limits.downtime_limit) {
        decision.step = NextStep::kSettlingRound;
        decision.reason = fmt::format(
            "{} unsettled pages are too many for the pause: drain block I/O first", only_unsettled);
    } else {
        decision.step = NextStep::kRound;
        decision.reason = within(decision.expected_downtime, limits.downtime_limit);
    }
    return decision;
}

}  // namespace godwit
