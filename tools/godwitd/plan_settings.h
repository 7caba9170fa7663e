// What a PlanRequest asks for, checked.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "engine/model/convergence.h"
#include "godwit/v1/plan.pb.h"
#include "transport/control/peer.h"

namespace godwit {

struct PlanSettings {
    HostPort destination;
    Duration sample = std::chrono::seconds(10);
    std::string tracker = "auto";
    ConvergenceLimits limits;  // the downtime limit, and what MigrateRequest has by itself
    Duration finish_by{};      // 0: none
    Bytes bandwidth_bytes_per_s = 0;
    bool limits_given = false;
};

// Errors: InvalidArgument, naming the field.
absl::StatusOr<PlanSettings> plan_settings(const v1::PlanRequest& request);

inline constexpr Duration kShortestSample = std::chrono::milliseconds(100);
inline constexpr Duration kLongestSample = std::chrono::minutes(10);

}  // namespace godwit
