#include "engine/model/working_set.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/units.h"

namespace godwit {
namespace {

constexpr double kPage = static_cast<double>(kPageBytes);
constexpr double kChunkPages = static_cast<double>(kPagesPerChunk);
constexpr uint32_t kThrottleStep_percent = 20;
constexpr uint32_t kMostThrottle_percent = 99;
// As the engine has them (engine/source/handover_postcopy.cc): from the last round to the look
// before the freeze, as parts of the setup: of 320 ms, 16 to 24 were seen, and a third more where
// the destination was made ready for faults. From the last look to the stop.
constexpr double kLookPart = 0.0625;
constexpr double kArmedLookPart = 0.0824;
constexpr double kStop_s = 0.003;
// What is sent before the freeze, unless it is next to nothing or takes too long at the rate of the
// fastest round.
constexpr double kCatchUp_s = 0.05;
constexpr int kMostCatchUps = 3;
constexpr double kLeastRound_s = 1e-9;
constexpr int kMoments = 64;  // of reading, that stand for all
constexpr double kNextToNothing_pages = 32;
// Of a guest whose RAM was all zero nothing is known of what it writes.
constexpr double kLeastContent = 0.1;

// One run through the model, with one curve and one rate.
struct ModelRun {
    Decision decision;
    uint32_t rounds = 0;
    double total_s = 0;
    double downtime_s = 0;
    double pages = 0;  // looked at
    double sent = 0;   // of these, as pages of average size
    double rest = 0;
    double faults = 0;
    bool as_engine = false;    // engine_forecast()
    double round_s = 0;        // of the last round, in the guest's own time
    double read_share = 0;     // of what was written in it, the part that it had read
    double at_once = 0;        // of what it sent, the part that was read as it began
    double fastest = 0;        // of the rounds so far, page bytes looked at per second
    double pause_rate = 0;     // page bytes per second
    double first_write_s = 0;  // of a guest that never rests
    DirtyCurve again;          // of pages that were read
};

absl::Status check_working_set(const WorkingSetInput& input) {
    GODWIT_RETURN_IF_ERROR(
        check_range("number of touched pages", input.touched_pages, 0, kMostPages));
    for (const double rate : {input.page_rate.low, input.page_rate.mid, input.page_rate.high})
        GODWIT_RETURN_IF_ERROR(
            check_range("page rate in bytes per second", rate, kLeastRate, kMostRate));
    for (const double rate : {input.pause_rate.low, input.pause_rate.mid, input.pause_rate.high})
        GODWIT_RETURN_IF_ERROR(check_range("page rate of the pause", rate, 0, kMostRate));
    GODWIT_RETURN_IF_ERROR(check_range("wire bytes per page byte", input.wire_share, 0, 2));
    GODWIT_RETURN_IF_ERROR(check_range("share of skipped pages", input.skipped_share, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("share of faults", input.fault_share, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("share of zero pages", input.zero_share, 0, 1));
    for (const double ahead : {input.read_ahead_pages, input.read_ahead_chunks})
        GODWIT_RETURN_IF_ERROR(check_range("number of pages read ahead", ahead, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(
        check_range("cost of a first write in seconds", input.first_write_s, 0, kLongestTime_s));
    GODWIT_RETURN_IF_ERROR(
        check_range("number of pages written to", input.spread.span_pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(
        check_range("number of pages in a clump", input.spread.clump_pages, 1, kMostPages));
    const MigrationCosts& costs = input.costs;
    for (const double cost : {costs.setup_s, costs.per_round_s, costs.pause_s, costs.fault_s})
        GODWIT_RETURN_IF_ERROR(check_range("fixed cost in seconds", cost, 0, kLongestTime_s));
    for (const double cost : {costs.cpu_s_per_page_byte, costs.cpu_s_per_wire_byte})
        GODWIT_RETURN_IF_ERROR(check_range("CPU time per byte in seconds", cost, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("downtime limit in seconds",
                                       to_seconds(input.limits.downtime_limit), 0, kLongestTime_s));
    return check_range("number of rounds", input.limits.max_rounds, 1, kMostRoundsModelled);
}

RoundObservation observation(const WorkingSetInput& input, const ModelRun& run, double round_s,
                             double sent, double dirty, double rate) {
    return {.rounds_done = run.rounds,
            .duration = from_seconds(round_s),
            .round_pages = static_cast<uint64_t>(sent + 0.5),
            .dirty_pages = static_cast<uint64_t>(dirty + 0.5),
            .unsettled_pages = static_cast<uint64_t>(dirty + 0.5),
            .page_rate = rate,
            .check_rate = rate,
            .total_page_bytes = static_cast<Bytes>(run.pages * kPage),
            .touched = static_cast<Bytes>(input.touched_pages * kPage),
            .fixed_cost = from_seconds(input.costs.pause_s)};
}

// What a page that was written takes of what the average page takes: it is not zero.
double written_weight(const WorkingSetInput& input, const ModelRun& run) {
    return run.as_engine ? 1 / std::max(1 - input.zero_share, kLeastContent) : 1;
}

// How many of the pages that a round read have changed `later_s` after it, if it read all: each was
// read at another moment, from its beginning on where it did not read all at once.
double changed_since_read(const DirtyCurve& curve, double later_s, const ModelRun& run) {
    const double longest_s = run.round_s + later_s;
    const double shortest_s = run.round_s * run.at_once + later_s;
    if (longest_s <= shortest_s) return run.again.pages(longest_s);
    if (run.first_write_s <= 0 || run.rounds > 1)
        return (run.again.mean_pages(longest_s) * longest_s -
                run.again.mean_pages(shortest_s) * shortest_s) /
               (longest_s - shortest_s);
    const auto own_s = [&](double time_s) {
        return time_s - run.first_write_s * curve.pages(time_s);
    };
    double sum = 0;
    for (int i = 0; i < kMoments; ++i) {
        const double read_s = (longest_s - shortest_s) * (i + 0.5) / kMoments;
        sum += run.again.pages(own_s(longest_s) - own_s(read_s));
    }
    return sum / kMoments;
}

// Pages with something new `later_s` after the last round. One that the round read counts if it was
// written after that: its window is the whole round where it was read at once, and as long as what
// was left of the round otherwise, any length alike.
double changed_pages(const DirtyCurve& curve, double later_s, const ModelRun& run) {
    const double all = curve.pages(run.round_s + later_s);
    if (run.at_once >= 1 || run.round_s <= 0) return all;
    const double in_turn = std::min(changed_since_read(curve, later_s, run), all);
    const double read = run.at_once * all + (1 - run.at_once) * in_turn;
    return run.read_share * read + (1 - run.read_share) * all;
}

// Pages between reading and the link in a round that sends `sent`. Later rounds have of a chunk
// what was written of it.
double read_ahead(const WorkingSetInput& input, const ModelRun& run, double sent) {
    double of_chunk = kChunkPages;
    if (run.rounds > 1) {
        const double span = input.spread.span_pages > 0
                                ? std::min(input.spread.span_pages, input.touched_pages)
                                : input.touched_pages;
        of_chunk *= std::min(sent / std::max(span, kChunkPages), 1.0);
    }
    return input.read_ahead_chunks * of_chunk + input.read_ahead_pages;
}

// Live rounds, of which the first sends `sent` pages; returns the rest.
double model_rounds(const DirtyCurve& curve, double rate, const WorkingSetInput& input, double sent,
                    uint32_t throttle_percent, ModelRun& run) {
    double looked_at = sent;
    double guest_s = 0;
    double weight = 1;  // of a page that is sent
    const double written_rate = rate / written_weight(input, run);
    while (true) {
        const double round_s = sent * weight * kPage / rate + input.costs.per_round_s;
        run.total_s += round_s;
        run.pages += looked_at;
        run.sent += sent * weight;
        ++run.rounds;
        run.round_s = round_s * (100 - throttle_percent) / 100;
        guest_s += run.round_s;
        run.fastest = std::max(run.fastest, looked_at * kPage / std::max(round_s, kLeastRound_s));
        // The set that the guest writes is at least what it has written so far.
        const double set = std::max(curve.pages(guest_s), 1.0);
        run.read_share = std::min(looked_at / set, 1.0);
        run.at_once = std::min(read_ahead(input, run, sent) / std::max(sent, 1.0), 1.0);
        const auto left = [&](double pages) {
            return std::min((1 - input.skipped_share) * pages, input.touched_pages);
        };
        const double changed = left(changed_pages(curve, 0, run));
        const bool rearmed = run.as_engine && run.rounds > 1 && input.rearms_as_read;
        const double dirty = rearmed ? changed : left(curve.pages(run.round_s));
        run.decision =
            decide(observation(input, run, round_s, looked_at, dirty, written_rate), input.limits);
        if (run.decision.step == NextStep::kThrottle)
            throttle_percent = next_throttle_percent(throttle_percent);
        else if (run.decision.step != NextStep::kRound &&
                 run.decision.step != NextStep::kSettlingRound)
            return dirty;
        looked_at = dirty;
        sent = run.as_engine ? std::min(changed, dirty) : dirty;
        weight = written_weight(input, run);
    }
}

// What is left when the guest is frozen after live rounds that were modelled: what was written
// while the freeze was prepared is part of it, and sent before where that takes little time.
double model_freeze(const DirtyCurve& curve, double rate, const WorkingSetInput& input,
                    ModelRun& run) {
    const auto left = [&](double pages) {
        return std::min((1 - input.skipped_share) * pages, input.touched_pages);
    };
    const bool armed = input.limits.strategy == Strategy::kHybrid;
    const double look_s = input.costs.setup_s * (armed ? kArmedLookPart : kLookPart);
    // What is dirty is dropped there without a look whether it has changed.
    if (run.decision.step == NextStep::kPostcopy)
        return left(run.rounds == 1 || !input.rearms_as_read
                        ? curve.pages(run.round_s + look_s + kStop_s)
                        : changed_pages(curve, look_s + kStop_s, run));
    const double weight = written_weight(input, run);
    double changed = left(changed_pages(curve, look_s, run));
    double dirty =
        run.rounds > 1 && input.rearms_as_read ? changed : left(curve.pages(run.round_s + look_s));
    double before = HUGE_VAL;
    double since_s = 0;
    for (int i = 0; i < kMostCatchUps; ++i) {
        if (dirty <= kNextToNothing_pages || dirty > before / 2 ||
            dirty * kPage > kCatchUp_s * run.fastest)
            break;
        before = dirty;
        since_s = changed * weight * kPage / rate + input.costs.per_round_s;
        run.total_s += since_s;
        run.pages += dirty;
        run.sent += changed * weight;
        dirty = changed = left(curve.pages(since_s));
    }
    return since_s > 0 ? left(curve.pages(since_s + kStop_s))
                       : left(changed_pages(curve, look_s + kStop_s, run));
}

// Whether the last set of a hybrid that has converged is dropped and follows after all: more was
// written in its last moment than the fastest round would have sent within the limit.
bool last_set_follows(const WorkingSetInput& input, const ModelRun& run) {
    return run.as_engine && run.rounds > 0 && run.decision.step == NextStep::kSwitch &&
           input.limits.strategy == Strategy::kHybrid &&
           run.rest * kPage > to_seconds(input.limits.last_set_limit) * run.fastest;
}

// Of pages that the destination has and that are not stale, those that it drops all the same.
double dropped_beside(const WorkingSetInput& input, const ModelRun& run, double stale) {
    if (!run.as_engine || run.rounds == 0) return 0;
    return dropped_pages(stale, input.touched_pages, input.spread, input.backing) - stale;
}

// The pause and what comes after it, with `rest` pages left.
void model_end(const DirtyCurve& curve, double rate, const WorkingSetInput& input, double rest,
               ModelRun& run) {
    if (run.as_engine && run.rounds > 0) {
        ModelRun frozen = run;
        rest = model_freeze(curve, rate, input, frozen);
        // One that gives up sends none of it: the pause is what it would be.
        if (run.decision.step != NextStep::kGiveUp) run = std::move(frozen);
    }
    run.rest = rest;
    const double weight = run.rounds > 0 ? written_weight(input, run) : 1;
    const bool follows = run.decision.step == NextStep::kPostcopy || last_set_follows(input, run);
    const double rest_s =
        rest * weight * kPage / (run.pause_rate > 0 && !follows ? run.pause_rate : rate);
    // Good pages that are dropped with their chunk are like any other.
    const double good = follows ? dropped_beside(input, run, rest) : 0;
    const double follow_s = rest_s + good * kPage / rate;
    run.downtime_s = input.costs.pause_s + (follows ? 0 : rest_s);
    if (follows && input.touched_pages > 0)
        run.faults =
            std::min(rest + good, input.fault_share * ((rest + good) / input.touched_pages) *
                                      curve.mean_pages(follow_s));
    if (run.decision.step == NextStep::kGiveUp) return;
    run.pages += rest + good;
    run.sent += rest * weight + good;
    run.total_s += input.costs.pause_s + follow_s;
    if (!run.as_engine) run.total_s += run.faults * input.costs.fault_s;
}

ModelRun run_model(const DirtyCurve& curve, double rate, double pause_rate,
                   const WorkingSetInput& input, bool as_engine) {
    ModelRun run{.total_s = input.costs.setup_s,
                 .as_engine = as_engine,
                 .pause_rate = as_engine ? pause_rate : 0,
                 .again = curve};
    if (as_engine && input.first_write_s > 0) {
        run.first_write_s = curve.first_write(input.first_write_s);
        run.again = curve.unhindered(input.first_write_s);
    }
    double rest = input.touched_pages;
    switch (input.limits.strategy) {
        case Strategy::kStopAndCopy:
            run.decision = {.step = NextStep::kStopAndCopy, .reason = "no live round"};
            break;
        case Strategy::kPostcopy:
            run.decision = {.step = NextStep::kPostcopy, .reason = "no live round"};
            break;
        case Strategy::kPrecopy:
        case Strategy::kHybrid:
            rest = model_rounds(curve, rate, input, rest, 0, run);
            break;
    }
    model_end(curve, rate, input, rest, run);
    return run;
}

ModelRun resume_model(const DirtyCurve& curve, double rate, const WorkingSetInput& input,
                      const RoundsSoFar& so_far) {
    ModelRun run{.decision = so_far.decision,
                 .rounds = so_far.rounds,
                 .total_s = so_far.elapsed_s,
                 .pages = so_far.pages,
                 .sent = so_far.pages,
                 .again = curve};
    double rest = so_far.rest_pages;
    const NextStep step = so_far.decision.step;
    const uint32_t throttle_percent = step == NextStep::kThrottle
                                          ? next_throttle_percent(so_far.throttle_percent)
                                          : so_far.throttle_percent;
    if (step == NextStep::kRound || step == NextStep::kSettlingRound || step == NextStep::kThrottle)
        rest = model_rounds(curve, rate, input, rest, throttle_percent, run);
    model_end(curve, rate, input, rest, run);
    return run;
}

Interval spread(double best, double expected, double worst) {
    return {.low = std::min({best, expected, worst}),
            .mid = expected,
            .high = std::max({best, expected, worst})};
}

Forecast forecast_of(const WorkingSetInput& input, const ModelRun& best, const ModelRun& mid,
                     const ModelRun& worst) {
    Forecast forecast{.strategy = input.limits.strategy,
                      .end = mid.decision.step,
                      .rounds = mid.rounds,
                      .rest_pages = spread(best.rest, mid.rest, worst.rest),
                      .total_s = spread(best.total_s, mid.total_s, worst.total_s),
                      .downtime_s = spread(best.downtime_s, mid.downtime_s, worst.downtime_s),
                      .faults = spread(best.faults, mid.faults, worst.faults),
                      .reason = mid.decision.reason};
    forecast.converges = mid.decision.step == NextStep::kSwitch;
    const Interval pages = spread(best.pages, mid.pages, worst.pages);
    const MigrationCosts& costs = input.costs;
    const auto scaled = [](const Interval& of, double by) {
        return Interval{.low = of.low * by, .mid = of.mid * by, .high = of.high * by};
    };
    const Interval sent = spread(best.sent, mid.sent, worst.sent);
    forecast.page_bytes = scaled(pages, kPage);
    forecast.wire_bytes = scaled(sent, kPage * input.wire_share);
    const auto cpu_s = [&](double looked_at, double on_the_wire) {
        return kPage * (looked_at * costs.cpu_s_per_page_byte +
                        on_the_wire * input.wire_share * costs.cpu_s_per_wire_byte);
    };
    forecast.cpu_s = {.low = cpu_s(pages.low, sent.low),
                      .mid = cpu_s(pages.mid, sent.mid),
                      .high = cpu_s(pages.high, sent.high)};
    return forecast;
}

absl::StatusOr<Forecast> forecast_with(const DirtyCurves& curves, const WorkingSetInput& input,
                                       bool as_engine) {
    GODWIT_RETURN_IF_ERROR(check_working_set(input));
    const Interval& live = input.page_rate;
    const Interval& pause = input.pause_rate;
    return forecast_of(input, run_model(curves.low, live.high, pause.high, input, as_engine),
                       run_model(curves.mid, live.mid, pause.mid, input, as_engine),
                       run_model(curves.high, live.low, pause.low, input, as_engine));
}

}  // namespace

absl::StatusOr<Forecast> working_set_forecast(const DirtyCurves& curves,
                                              const WorkingSetInput& input) {
    return forecast_with(curves, input, false);
}

absl::StatusOr<Forecast> engine_forecast(const DirtyCurves& curves, const WorkingSetInput& input) {
    return forecast_with(curves, input, true);
}

absl::StatusOr<Forecast> renewed_forecast(const DirtyCurves& curves, const WorkingSetInput& input,
                                          const RoundsSoFar& so_far) {
    GODWIT_RETURN_IF_ERROR(check_working_set(input));
    GODWIT_RETURN_IF_ERROR(
        check_range("number of rounds so far", so_far.rounds, 1, kMostRoundsModelled));
    GODWIT_RETURN_IF_ERROR(
        check_range("time so far in seconds", so_far.elapsed_s, 0, kLongestTime_s));
    for (const double pages : {so_far.pages, so_far.rest_pages})
        GODWIT_RETURN_IF_ERROR(check_range("number of pages so far", pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(
        check_range("throttle in percent", so_far.throttle_percent, 0, kMostThrottle_percent));
    return forecast_of(input, resume_model(curves.low, input.page_rate.high, input, so_far),
                       resume_model(curves.mid, input.page_rate.mid, input, so_far),
                       resume_model(curves.high, input.page_rate.low, input, so_far));
}

uint32_t next_throttle_percent(uint32_t percent) {
    return std::min(percent + kThrottleStep_percent, kMostThrottle_percent);
}

}  // namespace godwit
