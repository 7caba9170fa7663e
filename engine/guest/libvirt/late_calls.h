// Calls of libvirt with a deadline: libvirt's client gives up on a libvirtd that hangs after half a
// minute at the earliest, for each call anew.
#pragma once

#include <memory>
#include <utility>

#include "engine/base/late_call.h"
#include "engine/base/status.h"

namespace godwit {

// What libvirt's answers to questions and orders of a moment may take.
inline constexpr Duration kAnswerLimit = std::chrono::seconds(15);

inline constexpr const char* kLibvirtCall = "a call of libvirt";

absl::Status libvirt_is_silent();  // DeadlineExceeded, with what to look at

// What `call` returns, or libvirt_is_silent(). `unheard` gets the result that came too late.
template <typename Result>
absl::StatusOr<Result> result_within(Duration limit, std::function<absl::StatusOr<Result>()> call,
                                     std::function<void(absl::StatusOr<Result>)> unheard = {}) {
    using Answer = absl::StatusOr<Result>;
    auto answer = std::make_shared<Answer>(absl::UnknownError("no answer yet"));
    const auto too_late = [answer, unheard = std::move(unheard)] {
        Answer late = std::exchange(*answer, absl::UnknownError("taken"));
        if (unheard) unheard(std::move(late));
    };
    if (!done_within(
            limit, kLibvirtCall, [answer, call = std::move(call)] { *answer = call(); }, too_late))
        return libvirt_is_silent();
    return std::move(*answer);
}
absl::Status status_within(Duration limit, std::function<absl::Status()> call);

}  // namespace godwit
