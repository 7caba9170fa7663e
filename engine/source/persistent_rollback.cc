#include "engine/source/persistent_rollback.h"

#include <condition_variable>
#include <mutex>
#include <string>

namespace godwit {
namespace {

constexpr Duration kOneTry = std::chrono::seconds(10);
constexpr Duration kBetween = std::chrono::seconds(1);
constexpr Duration kRefusalLimit = std::chrono::minutes(10);

}  // namespace

absl::Status roll_back_persistently(const RollBackTries& tries) {
    const MonotonicTime give_up = tries.now() + kRefusalLimit;
    std::string last_said;
    while (true) {
        const absl::Status status = tries.roll_back(kOneTry);
        if (status.ok() || absl::IsNotFound(status)) return status;
        const bool silent = absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status);
        if (!silent && tries.now() >= give_up) return status;
        if (status.message() != last_said) tries.trouble(status);
        last_said = std::string(status.message());
        if (!tries.pause(kBetween))
            return absl::CancelledError("the agent ends; its successor goes on: " + last_said);
    }
}

absl::Status roll_back_persistently(
    Vm& vm, bool run, const std::stop_token& stop,
    const std::function<void(const absl::Status& reason)>& trouble) {
    std::mutex mutex;
    std::condition_variable_any wait;
    return roll_back_persistently(
        {.roll_back = [&](Duration limit) { return vm.roll_back(run, limit); },
         .now = [] { return Clock::system().now(); },
         .pause =
             [&](Duration time) {
                 std::unique_lock lock(mutex);
                 wait.wait_for(lock, stop, time, [] { return false; });
                 return !stop.stop_requested();
             },
         .trouble = trouble});
}

}  // namespace godwit
