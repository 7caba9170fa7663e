#include "tools/godwitd/plan_settings.h"

#include <fmt/format.h>

#include "tools/godwitd/migrate_settings.h"
#include "tools/godwitd/tracker_choice.h"

namespace godwit {

absl::StatusOr<PlanSettings> plan_settings(const v1::PlanRequest& request) {
    // The limits are a migration's, and are checked as such.
    v1::MigrateRequest like;
    like.set_destination(request.destination());
    like.set_tracker(request.tracker());
    like.set_downtime_limit_us(request.downtime_limit_us());
    like.set_finish_by_ms(request.finish_by_ms());
    like.set_bandwidth_bytes_per_s(request.bandwidth_bytes_per_s());
    like.set_on_no_converge(v1::ON_NO_CONVERGE_FAIL);
    GODWIT_ASSIGN_OR_RETURN(const MigrationSettings checked, migrate_settings(like));
    PlanSettings settings{
        .destination = checked.destination,
        .tracker = checked.tracker,
        .limits = checked.limits,
        .finish_by = checked.finish_by,
        .bandwidth_bytes_per_s = checked.bandwidth_bytes_per_s,
        .limits_given = request.downtime_limit_us() > 0 || request.finish_by_ms() > 0};
    if (request.sample_us() == 0) return settings;
    // Compared before it is multiplied: a huge number must not wrap round.
    const auto most = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(kLongestSample).count());
    settings.sample =
        std::chrono::microseconds(request.sample_us() <= most ? request.sample_us() : 0);
    if (settings.sample < kShortestSample)
        return absl::InvalidArgumentError(
            fmt::format("sample_us is {}; it must be 100 ms to 10 minutes", request.sample_us()));
    return settings;
}

}  // namespace godwit
