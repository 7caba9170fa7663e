// Calls of libvirt that may never return: libvirt's client gives up on a libvirtd that hangs after
// half a minute at the earliest, for each call anew. So threads make them that can be left behind.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

// What libvirt's answers to questions and orders of a moment may take.
inline constexpr Duration kAnswerLimit = std::chrono::seconds(15);

// The process ends: from now on nobody waits for libvirt longer than `limit` altogether, whatever
// was agreed; calls that are under way are given up then, and later ones at once.
void hurry_late_calls(Duration limit);
// Whether that time is over.
[[nodiscard]] bool late_calls_are_over();
// Calls that were left behind and have not returned. A process that ends with some must do so by
// _exit: they may be anywhere in libvirt.
[[nodiscard]] size_t late_calls_that_hang();

// One call, on a thread named "libvirt-call". It must own what it uses, handles of libvirt above
// all: the last one to be closed waits for libvirtd as well.
class LateCall {
  public:
    // `too_late` is called after it, on its thread, when nobody waits any more.
    explicit LateCall(std::function<void()> call, std::function<void()> too_late = {});
    ~LateCall() { give_up(); }
    LateCall(const LateCall&) = delete;
    LateCall& operator=(const LateCall&) = delete;

    // Waits; false: not done yet, or there is no time left for any call.
    bool done_by(MonotonicTime deadline);
    // Leaves it behind; false: it was done by then.
    bool give_up();

  private:
    struct State;
    const std::shared_ptr<State> state_;
    std::jthread thread_;
};

// Makes a call and waits for it no longer than `limit`; false: it was left behind.
bool done_within(Duration limit, std::function<void()> call, std::function<void()> too_late = {});

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
            limit, [answer, call = std::move(call)] { *answer = call(); }, too_late))
        return libvirt_is_silent();
    return std::move(*answer);
}
absl::Status status_within(Duration limit, std::function<absl::Status()> call);

// For whoever waits for late calls in another way: until `deadline`, or until there is no time left
// for any call. Returns done().
bool wait_for_late_call(std::unique_lock<std::mutex>& lock, std::condition_variable_any& changed,
                        MonotonicTime deadline, const std::function<bool()>& done);

}  // namespace godwit
