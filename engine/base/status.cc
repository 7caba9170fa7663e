#include "engine/base/status.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace godwit {
namespace {

absl::StatusCode code_of(int error_number) {
    switch (error_number) {
        case EPERM:
        case EACCES:
            return absl::StatusCode::kPermissionDenied;
        case ENOENT:
        case ESRCH:
            return absl::StatusCode::kNotFound;
        case EEXIST:
            return absl::StatusCode::kAlreadyExists;
        case EINVAL:
            return absl::StatusCode::kInvalidArgument;
        case ENOMEM:
        case ENOSPC:
        case EMFILE:
        case ENFILE:
            return absl::StatusCode::kResourceExhausted;
        case ETIMEDOUT:
            return absl::StatusCode::kDeadlineExceeded;
        case ECANCELED:
            return absl::StatusCode::kCancelled;
        case ENOSYS:
        case EOPNOTSUPP:
            return absl::StatusCode::kUnimplemented;
        default:
            return absl::StatusCode::kUnavailable;
    }
}

}  // namespace

absl::Status errno_status(int error_number, std::string_view what) {
    const char* name = strerrorname_np(error_number);
    return {code_of(error_number),
            fmt::format("{}: {} ({})", what, name ? name : "unknown error",
                        strerrordesc_np(error_number) ? strerrordesc_np(error_number)
                                                      : std::to_string(error_number))};
}

absl::Status annotate(const absl::Status& status, std::string_view context) {
    if (status.ok()) return status;
    return {status.code(), fmt::format("{}: {}", context, std::string(status.message()))};
}

}  // namespace godwit
