#include "engine/guest/libvirt/late_calls.h"

#include <condition_variable>
#include <mutex>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/wait.h"

namespace godwit {

void leave_behind(std::jthread thread) {
    // Never destroyed: at the end of the process nobody joins these.
    // NOLINTBEGIN(cppcoreguidelines-owning-memory)
    static std::mutex& mutex = *new std::mutex;
    static std::vector<std::jthread>& left = *new std::vector<std::jthread>;
    // NOLINTEND(cppcoreguidelines-owning-memory)
    const std::lock_guard lock(mutex);
    left.push_back(std::move(thread));
    spdlog::error("a call of libvirt hangs and was left behind, the {}. of this agent",
                  left.size());
}

bool done_within(Duration limit, std::function<void()> call) {
    struct State {
        std::mutex mutex;
        std::condition_variable changed;
        bool done = false;
    };
    auto state = std::make_shared<State>();
    std::jthread thread([state, call = std::move(call)] {
        set_thread_name("libvirt-call");
        call();
        const std::lock_guard lock(state->mutex);
        state->done = true;
        state->changed.notify_all();
    });
    {
        std::unique_lock lock(state->mutex);
        if (state->changed.wait_for(lock, limit, [&] { return state->done; })) return true;
    }
    leave_behind(std::move(thread));
    return false;
}

}  // namespace godwit
