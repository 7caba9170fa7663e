#include "engine/model/forecast.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {

absl::Status check_range(std::string_view what, double value, double low, double high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "The {} is {:g}: nothing can be predicted outside {:g} to {:g}; measure it again", what,
        value, low, high));
}

double to_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Duration from_seconds(double seconds) {
    return Duration(static_cast<int64_t>(std::clamp(seconds, 0.0, kLongestTime_s) * 1e9 + 0.5));
}

std::string_view strategy_word(Strategy strategy) {
    switch (strategy) {
        case Strategy::kStopAndCopy:
            return "stop-and-copy";
        case Strategy::kPrecopy:
            return "precopy";
        case Strategy::kPostcopy:
            return "postcopy";
        case Strategy::kHybrid:
            return "hybrid";
    }
    return "unknown";
}

}  // namespace godwit
