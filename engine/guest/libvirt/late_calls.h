// Calls of libvirt that may never return: they are made by threads that can be left behind.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

// Takes a thread that hangs in a call of libvirt: it is never joined, and must own what it uses. A
// process that ends does not wait for it.
void leave_behind(std::jthread thread);

// Runs `call` on a thread named "libvirt-call", and waits for it no longer than `limit`; false: it
// was left behind. It must own what it uses.
bool done_within(Duration limit, std::function<void()> call);

// What `call` returns, or DeadlineExceeded.
template <typename Result>
absl::StatusOr<Result> result_within(Duration limit, std::function<absl::StatusOr<Result>()> call) {
    using Answer = absl::StatusOr<Result>;
    auto answer = std::make_shared<Answer>(absl::UnknownError("no answer yet"));
    if (!done_within(limit, [answer, call = std::move(call)] { *answer = call(); }))
        return absl::DeadlineExceededError("libvirt does not answer");
    return std::move(*answer);
}

}  // namespace godwit
