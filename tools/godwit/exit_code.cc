#include "tools/godwit/exit_code.h"

#include "transport/control/error_detail.h"

namespace godwit {

ExitCode exit_code_of(const v1::MigrationReport& report) {
    if (report.guest_at() == v1::GUEST_AT_NONE) return ExitCode::kGuestDied;
    if (report.guest_at() == v1::GUEST_AT_NEEDS_OPERATOR) return ExitCode::kNeedsOperator;
    switch (report.outcome()) {
        case v1::OUTCOME_DONE:
            return ExitCode::kDone;
        case v1::OUTCOME_CANCELLED:
            return ExitCode::kCancelled;
        case v1::OUTCOME_REFUSED:
            return ExitCode::kRefused;
        case v1::OUTCOME_IN_DOUBT:
            return ExitCode::kNeedsOperator;
        case v1::OUTCOME_GUEST_DIED:
            return ExitCode::kGuestDied;
        default:
            // Something is wrong with a guest that the source can't have back.
            return report.guest_at() == v1::GUEST_AT_DESTINATION ? ExitCode::kNeedsOperator
                                                                 : ExitCode::kFailed;
    }
}

ExitCode exit_code_of(const absl::Status& status) {
    if (status.ok()) return ExitCode::kDone;
    if (absl::IsInvalidArgument(status)) return ExitCode::kUsage;
    // The answer was lost on its way: nobody here knows what became of it.
    if (absl::IsUnavailable(status) && !detail_of(status)) return ExitCode::kNeedsOperator;
    // It was tried, and did not come about in time.
    return absl::IsDeadlineExceeded(status) ? ExitCode::kFailed : ExitCode::kRefused;
}

}  // namespace godwit
