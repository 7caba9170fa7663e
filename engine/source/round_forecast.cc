#include "engine/source/round_forecast.h"

#include <algorithm>

namespace godwit {
namespace {

constexpr double kMs = 1e3;
constexpr double kPageSize = static_cast<double>(kPageBytes);
constexpr double kShortestSample_s = 1e-6;

}  // namespace

std::optional<Forecast> RoundForecaster::renew(const Round& round) {
    const RoundObservation& seen = round.seen;
    const double window_s = to_seconds(seen.duration) * (100.0 - round.throttle_percent) / 100.0;
    samples_.push_back({.window_s = std::max(window_s, kShortestSample_s),
                        .pages = static_cast<double>(seen.dirty_pages)});
    const double rate = seen.page_rate;
    if (rate <= 0) return std::nullopt;
    page_rate_ = {.low = page_rate_.low > 0 ? std::min(page_rate_.low, rate) : rate,
                  .mid = rate,
                  .high = std::max(page_rate_.high, rate)};
    const double touched_pages = static_cast<double>(seen.touched) / kPageSize;
    const absl::StatusOr<DirtyCurves> curves = fit_dirty_curves(samples_, touched_pages);
    if (!curves.ok()) return std::nullopt;
    const auto looked_at = static_cast<double>(seen.total_page_bytes);
    const absl::StatusOr<Forecast> forecast = renewed_forecast(
        *curves,
        {.touched_pages = touched_pages,
         .page_rate = page_rate_,
         .wire_share =
             looked_at > 0 ? std::min(static_cast<double>(round.sent_bytes) / looked_at, 2.0) : 1,
         .costs = {.pause_s = to_seconds(seen.fixed_cost)},
         .limits = limits_},
        {.rounds = seen.rounds_done,
         .elapsed_s = round.elapsed_s,
         .pages = looked_at / kPageSize,
         .rest_pages = static_cast<double>(seen.unsettled_pages),
         .throttle_percent = round.throttle_percent,
         .decision = round.decision});
    if (!forecast.ok()) return std::nullopt;
    return *forecast;
}

v1::Interval in_proto(const Interval& interval, double scale) {
    v1::Interval made;
    made.set_low(interval.low * scale);
    made.set_mid(interval.mid * scale);
    made.set_high(interval.high * scale);
    return made;
}

v1::RoundForecast in_proto(const Forecast& forecast) {
    v1::RoundForecast made;
    made.set_rounds(forecast.rounds);
    *made.mutable_rest_pages() = in_proto(forecast.rest_pages);
    *made.mutable_total_ms() = in_proto(forecast.total_s, kMs);
    *made.mutable_downtime_ms() = in_proto(forecast.downtime_s, kMs);
    made.set_converges(forecast.converges);
    return made;
}

v1::Prediction as_prediction(const Forecast& forecast, const std::string& by) {
    v1::Prediction made;
    made.set_predicted_by(by);
    *made.mutable_total_ms() = in_proto(forecast.total_s, kMs);
    *made.mutable_downtime_ms() = in_proto(forecast.downtime_s, kMs);
    *made.mutable_wire_bytes() = in_proto(forecast.wire_bytes);
    return made;
}

}  // namespace godwit
