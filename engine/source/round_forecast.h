// What the live rounds so far say about the rest of a migration.
#pragma once

#include <optional>
#include <vector>

#include "engine/model/working_set.h"
#include "godwit/v1/report.pb.h"

namespace godwit {

// Pure but for what it was told before; one migration's. Each round adds a point to the
// unique-dirty curve: after round 0 that is the classical model, and it bends as rounds of other
// lengths follow.
class RoundForecaster {
  public:
    struct Round {
        RoundObservation seen;
        Decision decision;  // as it was carried out
        double elapsed_s = 0;
        Bytes sent_bytes = 0;           // in all rounds
        uint32_t throttle_percent = 0;  // while the round ran
    };

    explicit RoundForecaster(const ConvergenceLimits& limits) : limits_(limits) {}

    // Nothing where nothing can be said yet: no rate is known, or a number is absurd.
    std::optional<Forecast> renew(const Round& round);

  private:
    const ConvergenceLimits limits_;
    std::vector<DirtySample> samples_;  // at most max_rounds
    Interval page_rate_;
};

// As the report has them. Every number is finite, as a Forecast's are.
v1::Interval in_proto(const Interval& interval, double scale = 1);
v1::RoundForecast in_proto(const Forecast& forecast);
v1::Prediction as_prediction(const Forecast& forecast, const std::string& by);

}  // namespace godwit
