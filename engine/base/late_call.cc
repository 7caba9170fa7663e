#include "engine/base/late_call.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

// Of the whole process, which ends once. Never destroyed: calls that were left behind may outlast
// everything else.
struct Hurry {
    std::stop_source begun;
    std::atomic<MonotonicTime> end{MonotonicTime::max()};
    std::atomic<size_t> hanging{0};
};

Hurry& hurry() {
    static Hurry& it = *new Hurry;  // NOLINT(cppcoreguidelines-owning-memory)
    return it;
}

}  // namespace

void hurry_late_calls(Duration limit) {
    const MonotonicTime end = Clock::system().now() + limit;
    if (hurry().end.load() > end) hurry().end = end;
    hurry().begun.request_stop();
}

bool late_calls_are_over() { return Clock::system().now() >= hurry().end.load(); }

size_t late_calls_that_hang() { return hurry().hanging; }

bool wait_for_late_call(std::unique_lock<std::mutex>& lock, std::condition_variable_any& changed,
                        MonotonicTime deadline, const std::function<bool()>& done) {
    // A hurry that begins meanwhile ends this wait, and there may be some time left.
    if (changed.wait_until(lock, hurry().begun.get_token(), deadline, done)) return true;
    if (!hurry().begun.stop_requested()) return false;
    return changed.wait_until(lock, std::min(deadline, hurry().end.load()), done);
}

struct LateCall::State {
    std::mutex mutex;
    std::condition_variable_any changed;
    bool done = false;
    bool given_up = false;
};

LateCall::LateCall(std::string what, std::function<void()> call, std::function<void()> too_late)
    : what_(std::move(what)), state_(std::make_shared<State>()) {
    thread_ = std::jthread(
        [state = state_, call = std::move(call), too_late = std::move(too_late)]() mutable {
            set_thread_name("late-call");
            call();
            call = nullptr;  // what it held is closed before anybody joins this thread
            std::unique_lock lock(state->mutex);
            state->done = true;
            state->changed.notify_all();
            if (!state->given_up) return;
            lock.unlock();
            if (too_late) too_late();
            too_late = nullptr;
            --hurry().hanging;
        });
}

bool LateCall::give_up() {
    const std::lock_guard lock(state_->mutex);
    if (state_->done) return false;  // ~jthread joins
    if (std::exchange(state_->given_up, true)) return true;
    const size_t hanging = ++hurry().hanging;
    thread_.detach();
    spdlog::warn("{} takes too long and was left behind; {} such calls hang", what_, hanging);
    return true;
}

bool LateCall::done_by(MonotonicTime deadline) {
    std::unique_lock lock(state_->mutex);
    return wait_for_late_call(lock, state_->changed, deadline, [this] { return state_->done; });
}

bool done_within(Duration limit, std::string what, std::function<void()> call,
                 std::function<void()> too_late) {
    LateCall late(std::move(what), std::move(call), std::move(too_late));
    return late.done_by(Clock::system().now() + limit) || !late.give_up();
}

}  // namespace godwit
