// Exit codes of the command line: an API of its own.
#pragma once

#include "engine/base/status.h"
#include "godwit/v1/report.pb.h"

namespace godwit {

enum class ExitCode : int {
    kDone = 0,
    kFailed = 1,  // the guest runs at the source
    kUsage = 2,
    kRefused = 3,  // before anything was touched
    kNeedsOperator = 4,
    kCancelled = 5,
    kGuestDied = 6,
};

ExitCode exit_code_of(const v1::MigrationReport& report);
// For a call that failed.
ExitCode exit_code_of(const absl::Status& status);

}  // namespace godwit
