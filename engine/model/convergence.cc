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
    switch (limits.on_no_converge) {
        case NoConverge::kStopAndCopy:
            return NextStep::kStopAndCopy;
        case NoConverge::kPostcopy:
            return NextStep::kPostcopy;
        default:
            return NextStep::kGiveUp;
    }
}

// Whether a limit on the rounds is reached; fills the decision.
bool limits_are_reached(const RoundObservation& seen, const ConvergenceLimits& limits,
                        Decision& decision) {
    const std::string where = fmt::format(
        "{}, r = {:.2f}", within(decision.expected_downtime, limits.downtime_limit), decision.r);
    if (seen.rounds_done >= limits.max_rounds)
        decision.reason = fmt::format("no convergence in {} rounds: {}", seen.rounds_done, where);
    else if (static_cast<double>(seen.total_page_bytes) >
             limits.max_data * static_cast<double>(seen.touched))
        decision.reason = fmt::format("no convergence within {:.1f} times the touched RAM: {}",
                                      limits.max_data, where);
    else
        return false;
    decision.step = at_limit(limits);
    return true;
}

double pages_in(Bytes bytes) {
    return static_cast<double>(bytes) / static_cast<double>(kPageBytes);
}

// Whether further rounds might come under the limit, at their best.
bool rounds_may_do(const RoundObservation& seen, const ConvergenceLimits& limits, Duration allowed,
                   double dirty_pages_per_s) {
    const double page_s = static_cast<double>(kPageBytes) / std::max(seen.page_rate, 1.0);
    const double round_s = std::chrono::duration<double>(seen.duration).count();
    const double idle_s =
        seen.round_pages == 0
            ? 0
            : std::max(round_s - static_cast<double>(seen.round_pages) * page_s, 0.0);
    const double last_set_s = std::chrono::duration<double>(allowed - seen.fixed_cost).count();
    const double enough_pages = std::max(last_set_s / page_s, pages_in(limits.threshold));
    const double most_pages = limits.max_data * pages_in(seen.touched);
    double total_pages = pages_in(seen.total_page_bytes);
    auto pages = static_cast<double>(seen.dirty_pages);
    const uint32_t rounds_left = limits.max_rounds - std::min(limits.max_rounds, seen.rounds_done);
    for (uint32_t i = 0; i < std::min(rounds_left, kRoundsAhead) && total_pages <= most_pages;
         ++i) {
        total_pages += pages;
        const double left = kRateAtItsBest * dirty_pages_per_s * (pages * page_s + idle_s);
        if (left <= enough_pages) return true;
        if (left >= pages) return false;
        pages = left;
    }
    return false;
}

// Whether further rounds would lead nowhere; fills the decision if something else is to be done
// then.
bool rounds_lead_nowhere(const RoundObservation& seen, const ConvergenceLimits& limits,
                         Duration allowed, Decision& decision) {
    const bool throttles = limits.on_no_converge == NoConverge::kThrottle;
    const bool follows =
        limits.strategy == Strategy::kHybrid && limits.on_no_converge != NoConverge::kFail;
    if (!throttles && !follows) return false;
    const auto pages = static_cast<double>(seen.round_pages);
    const bool flat =
        seen.round_pages > 0 && static_cast<double>(seen.dirty_pages) > kLeastShrink * pages;
    const bool hopeless =
        seen.page_rate > 0 && !rounds_may_do(seen, limits, allowed, decision.dirty_pages_per_s);
    if (!hopeless && !(flat && limits.strategy == Strategy::kHybrid)) return false;
    decision.step = throttles ? NextStep::kThrottle : at_limit(limits);
    decision.reason =
        decision.r < 1
            ? fmt::format(
                  "live rounds do not help any more: {} pages were sent and {} written, r = {:.2f}",
                  seen.round_pages, seen.dirty_pages, decision.r)
            : fmt::format("live rounds can't converge: r = {:.2f}", decision.r);
    return true;
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

    // What the last set may take, fixed costs included, and what it takes without unsettled pages.
    const Duration allowed = limits.strategy == Strategy::kHybrid
                                 ? seen.fixed_cost + limits.last_set_limit
                                 : limits.downtime_limit;
    const Bytes rest = (seen.dirty_pages + only_unsettled) * kPageBytes;
    if (limits.threshold > 0 && rest <= limits.threshold) {
        decision.step = NextStep::kSwitch;
        decision.reason = fmt::format("{} left, threshold {}", format_bytes(rest),
                                      format_bytes(limits.threshold));
    } else if (decision.expected_downtime <= allowed) {
        decision.step = NextStep::kSwitch;
        decision.reason = limits.strategy == Strategy::kHybrid
                              ? fmt::format("the last set adds {:.2f} ms",
                                            to_ms(decision.expected_downtime - seen.fixed_cost))
                              : within(decision.expected_downtime, limits.downtime_limit);
    } else if (limits_are_reached(seen, limits, decision)) {
        return decision;
    } else if (changed <= allowed) {
        decision.step = NextStep::kSettlingRound;
        decision.reason = fmt::format(
            "{} unsettled pages are too many for the pause: drain block I/O first", only_unsettled);
    } else if (!rounds_lead_nowhere(seen, limits, allowed, decision)) {
        decision.step = NextStep::kRound;
        decision.reason = within(decision.expected_downtime, limits.downtime_limit);
    }
    return decision;
}

bool must_switch_by(Duration limit, Duration elapsed, uint64_t pages_left, double page_rate) {
    if (limit <= Duration::zero()) return false;
    const auto rest =
        std::chrono::duration_cast<Duration>(time_for(pages_left, page_rate) * kPushAllowance);
    return elapsed + rest >= limit;
}

}  // namespace godwit
