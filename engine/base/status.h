// Errors: absl::Status everywhere a call can fail, with the macros that pass them on.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace godwit {

// A status for a failed system call: "<what>: EINVAL (Invalid argument)". The code follows errno
// (EPERM and EACCES: PermissionDenied, ENOENT: NotFound, ENOMEM and ENOSPC: ResourceExhausted, …).
absl::Status errno_status(int error_number, std::string_view what);

// The same code with "<context>: " in front of the message; an ok status stays ok.
absl::Status annotate(const absl::Status& status, std::string_view context);

}  // namespace godwit

#define GODWIT_CONCAT_INNER(a, b) a##b
#define GODWIT_CONCAT(a, b) GODWIT_CONCAT_INNER(a, b)

#define GODWIT_RETURN_IF_ERROR(expression)                                                        \
    do {                                                                                          \
        if (absl::Status godwit_status = (expression); !godwit_status.ok()) return godwit_status; \
    } while (false)

#define GODWIT_ASSIGN_OR_RETURN(lhs, expression) \
    GODWIT_ASSIGN_OR_RETURN_INNER(GODWIT_CONCAT(godwit_or_, __LINE__), lhs, expression)
// NOLINTBEGIN(bugprone-macro-parentheses): lhs is a declaration
#define GODWIT_ASSIGN_OR_RETURN_INNER(holder, lhs, expression) \
    auto holder = (expression);                                \
    if (!holder.ok()) return std::move(holder).status();       \
    lhs = *std::move(holder)
// NOLINTEND(bugprone-macro-parentheses)
