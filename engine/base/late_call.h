// Calls that may never return, of a libvirtd that hangs or about a file whose server is gone: so
// threads make them that can be left behind.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "engine/base/clock.h"

namespace godwit {

// The process ends: from now on nobody waits for such a call longer than `limit` altogether,
// whatever was agreed; calls that are under way are given up then, and later ones at once.
void hurry_late_calls(Duration limit);
// Whether that time is over.
[[nodiscard]] bool late_calls_are_over();
// Calls that were left behind and have not returned. A process that ends with some must do so by
// _exit: they may be anywhere in a library.
[[nodiscard]] size_t late_calls_that_hang();

// One call, on a thread named "late-call". It must own what it uses, handles of libvirt above all:
// the last one to be closed waits for libvirtd as well.
class LateCall {
  public:
    // `what`: for the log, as "a call of libvirt". `too_late` is called after the call, on its
    // thread, when nobody waits any more.
    LateCall(std::string what, std::function<void()> call, std::function<void()> too_late = {});
    ~LateCall() { give_up(); }
    LateCall(const LateCall&) = delete;
    LateCall& operator=(const LateCall&) = delete;

    // Waits; false: not done yet, or there is no time left for any call.
    bool done_by(MonotonicTime deadline);
    // Leaves it behind; false: it was done by then.
    bool give_up();

  private:
    struct State;
    const std::string what_;
    const std::shared_ptr<State> state_;
    std::jthread thread_;
};

// Makes a call and waits for it no longer than `limit`; false: it was left behind.
bool done_within(Duration limit, std::string what, std::function<void()> call,
                 std::function<void()> too_late = {});

// For whoever waits for late calls in another way: until `deadline`, or until there is no time left
// for any call. Returns done().
bool wait_for_late_call(std::unique_lock<std::mutex>& lock, std::condition_variable_any& changed,
                        MonotonicTime deadline, const std::function<bool()>& done);

}  // namespace godwit
