#include "engine/model/chooser.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr Strategy kByComfort[] = {Strategy::kStopAndCopy, Strategy::kPrecopy, Strategy::kHybrid,
                                   Strategy::kPostcopy};
// Streams cost threads on both hosts: more of them must be worth it.
constexpr double kAsGood = 1.02;
constexpr uint32_t kMostStreams = 64;
constexpr double kMostVcpus = 1e5;
constexpr uint32_t kLeastUsed = 2;
// One host pair's best share over its worst (calibration.h).
constexpr double kMostCodecShare = 40;

std::string milliseconds(double seconds) { return fmt::format("{:.1f} ms", seconds * 1e3); }

// What the strategy does where the rounds lead nowhere, if it is not what was asked for.
NoConverge when_it_does_not(Strategy strategy, NoConverge asked) {
    if (strategy == Strategy::kHybrid && asked == NoConverge::kFail) return NoConverge::kPostcopy;
    return asked;
}

// Of so many streams, as many as have a CPU all the time.
double streams_at_work(const PlanInput& input, uint32_t streams, bool guest_runs) {
    const double cpus = input.source_cpus;
    if (cpus <= 0) return streams;
    const double wanted = streams + (guest_runs ? input.busy_vcpus : 0);
    return streams * std::min(cpus / wanted, 1.0);
}

double page_rate_of(const CodecOption& codec, double streams, double link_rate) {
    const double most = std::min(streams * codec.stream_page_rate, kMostRate);
    const double rate = codec.wire_share > 0 ? std::min(link_rate / codec.wire_share, most) : most;
    return std::clamp(rate * codec.rate_share, kLeastRate, kMostRate);
}

void widen(Interval& interval, const ErrorRange& errors) {
    interval.low = std::min(interval.low, interval.mid * errors.low);
    interval.high = std::max(interval.high, interval.mid * errors.high);
}

absl::StatusOr<Forecast> forecast_for(const PlanInput& input, const DirtyCurves& curves,
                                      Strategy strategy, const CodecOption& codec,
                                      uint32_t streams) {
    const auto page_rates = [&](bool guest_runs) {
        const double at_work = streams_at_work(input, streams, guest_runs);
        const auto of_link = [&](double link) { return page_rate_of(codec, at_work, link); };
        return Interval{.low = of_link(input.link_rate.low),
                        .mid = of_link(input.link_rate.mid),
                        .high = of_link(input.link_rate.high)};
    };
    WorkingSetInput one{
        .touched_pages = input.touched_pages,
        .page_rate = page_rates(true),
        .pause_rate = page_rates(false),
        .wire_share = codec.wire_share,
        .skipped_share = input.skipped_share,
        .fault_share = input.fault_share,
        .zero_share = input.zero_share,
        .read_ahead_chunks = input.read_ahead_chunks * std::max(streams, kLeastUsed),
        .read_ahead_pages = input.read_ahead_pages * std::max(streams, kLeastUsed),
        .rearms_as_read = input.rearms_as_read,
        .first_write_s = input.first_write_s,
        .backing = input.backing,
        .spread = spread_of(input.samples),
        .costs = input.costs,
        .limits = input.limits};
    one.costs.cpu_s_per_page_byte += codec.cpu_s_per_page_byte;
    one.limits.strategy = strategy;
    one.limits.on_no_converge = when_it_does_not(strategy, input.limits.on_no_converge);
    GODWIT_ASSIGN_OR_RETURN(Forecast forecast, engine_forecast(curves, one));
    widen(forecast.total_s, input.errors.total);
    widen(forecast.downtime_s, input.errors.downtime);
    widen(forecast.wire_bytes, input.errors.wire_bytes);
    return forecast;
}

void judge(const PlanInput& input, PlanRow& row) {
    const Forecast& forecast = row.forecast;
    const double limit_s = to_seconds(input.limits.downtime_limit);
    row.holds = false;
    if (forecast.end == NextStep::kGiveUp)
        row.verdict = fmt::format("it will not converge ({})", forecast.reason);
    else if (input.costs.pause_s > limit_s)
        row.verdict = fmt::format("device state and resume alone take {}, limit {}",
                                  milliseconds(input.costs.pause_s), milliseconds(limit_s));
    else if (forecast.downtime_s.high > limit_s)
        row.verdict = fmt::format("downtime up to {}, limit {}",
                                  milliseconds(forecast.downtime_s.high), milliseconds(limit_s));
    else if (input.finish_by_s > 0 && forecast.total_s.high > input.finish_by_s)
        row.verdict = fmt::format("total time up to {:.1f} s, limit {:.1f} s",
                                  forecast.total_s.high, input.finish_by_s);
    else {
        row.holds = true;
        row.verdict = fmt::format("downtime up to {} and total time up to {:.1f} s hold",
                                  milliseconds(forecast.downtime_s.high), forecast.total_s.high);
    }
}

// The total time that each codec is expected to take with each number of streams.
struct Tried {
    std::string codec;
    uint32_t streams = 1;
    double total_s = 0;
};

std::string choice_of(const PlanRow& best, const std::vector<Tried>& tried) {
    std::string choice = fmt::format("{} on {} stream{} takes {:.2f} s", best.codec, best.streams,
                                     best.streams == 1 ? "" : "s", best.forecast.total_s.mid);
    const Tried* other = nullptr;
    const Tried* fewer = nullptr;
    for (const Tried& one : tried) {
        if (one.codec != best.codec && (other == nullptr || one.total_s < other->total_s))
            other = &one;
        if (one.codec == best.codec && one.streams + 1 == best.streams) fewer = &one;
    }
    if (fewer != nullptr) choice += fmt::format(", one stream less {:.2f} s", fewer->total_s);
    if (other != nullptr)
        choice += fmt::format(", {} at best {:.2f} s (on {})", other->codec, other->total_s,
                              other->streams);
    return choice;
}

absl::StatusOr<PlanRow> best_row(const PlanInput& input, const DirtyCurves& curves,
                                 Strategy strategy) {
    PlanRow best;
    size_t best_codec = 0;
    std::vector<Tried> tried;
    for (uint32_t streams = 1; streams <= input.max_streams; ++streams) {
        for (size_t i = 0; i < input.codecs.size(); ++i) {
            const CodecOption& codec = input.codecs[i];
            const bool guest_runs = strategy != Strategy::kStopAndCopy;
            PlanRow row{
                .codec = codec.name,
                .streams = streams,
                .page_rate = page_rate_of(codec, streams_at_work(input, streams, guest_runs),
                                          input.link_rate.mid)};
            GODWIT_ASSIGN_OR_RETURN(row.forecast,
                                    forecast_for(input, curves, strategy, codec, streams));
            judge(input, row);
            const double least_gain = i > best_codec ? codec.least_gain : 0;
            const bool better = tried.empty() || (row.holds && !best.holds) ||
                                (row.holds == best.holds &&
                                 row.forecast.total_s.mid * (streams > best.streams ? kAsGood : 1) <
                                     best.forecast.total_s.mid * (1 - least_gain));
            tried.push_back({codec.name, streams, row.forecast.total_s.mid});
            if (!better) continue;
            best = std::move(row);
            best_codec = i;
        }
    }
    best.choice = choice_of(best, tried);
    return best;
}

std::string sentence_of(const Plan& plan) {
    if (plan.chosen) {
        const PlanRow& row = plan.rows[*plan.chosen];
        std::string sentence =
            fmt::format("yes: {} with {} on {} stream{}: {}", strategy_word(row.forecast.strategy),
                        row.codec, row.streams, row.streams == 1 ? "" : "s", row.verdict);
        if (*plan.chosen > 0) {
            const PlanRow& passed = plan.rows[*plan.chosen - 1];
            sentence += fmt::format("; {} would not do: {}",
                                    strategy_word(passed.forecast.strategy), passed.verdict);
        }
        return sentence;
    }
    // The reason of the strategy that comes nearest: the last, whose pause is the shortest.
    return fmt::format("no: not even {} holds the limits: {}; allow more time or a longer pause",
                       strategy_word(plan.rows.back().forecast.strategy), plan.rows.back().verdict);
}

}  // namespace

absl::StatusOr<Plan> make_plan(const PlanInput& input) {
    if (input.codecs.empty())
        return absl::InvalidArgumentError("There is no codec to plan with: measure at least raw");
    GODWIT_RETURN_IF_ERROR(check_range("number of streams", input.max_streams, 1, kMostStreams));
    GODWIT_RETURN_IF_ERROR(check_range("number of busy vCPUs", input.busy_vcpus, 0, kMostVcpus));
    for (const CodecOption& codec : input.codecs) {
        GODWIT_RETURN_IF_ERROR(check_range("wire bytes per page byte", codec.wire_share, 0, 2));
        GODWIT_RETURN_IF_ERROR(check_range("page rate of a stream in bytes per second",
                                           codec.stream_page_rate, kLeastRate, kMostRate));
        GODWIT_RETURN_IF_ERROR(
            check_range("share of the page rate", codec.rate_share, 0, kMostCodecShare));
        GODWIT_RETURN_IF_ERROR(check_range("least gain of a codec", codec.least_gain, 0, 1));
    }
    for (const double rate : {input.link_rate.low, input.link_rate.mid, input.link_rate.high})
        GODWIT_RETURN_IF_ERROR(
            check_range("link rate in bytes per second", rate, kLeastRate, kMostRate));
    GODWIT_RETURN_IF_ERROR(
        check_range("time to finish by in seconds", input.finish_by_s, 0, kLongestTime_s));
    for (const ErrorRange& errors :
         {input.errors.total, input.errors.downtime, input.errors.wire_bytes})
        for (const double error : {errors.low, errors.high})
            GODWIT_RETURN_IF_ERROR(
                check_range("error of earlier forecasts", error, 0, kWorstError));
    GODWIT_ASSIGN_OR_RETURN(const DirtyCurves curves,
                            fit_dirty_curves(input.samples, input.touched_pages));
    Plan plan;
    for (const Strategy strategy : kByComfort) {
        GODWIT_ASSIGN_OR_RETURN(PlanRow row, best_row(input, curves, strategy));
        if (row.holds && !plan.chosen) plan.chosen = plan.rows.size();
        plan.rows.push_back(std::move(row));
    }
    plan.sentence = sentence_of(plan);
    return plan;
}

}  // namespace godwit
