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

absl::Status roll_back_persistently(
    Vm& vm, bool run, const std::stop_token& stop,
    const std::function<void(const absl::Status& reason)>& trouble) {
    const MonotonicTime give_up = Clock::system().now() + kRefusalLimit;
    std::mutex mutex;
    std::condition_variable_any wait;
    std::string last_said;
    while (true) {
        const absl::Status status = vm.roll_back(run, kOneTry);
        if (status.ok() || absl::IsNotFound(status)) return status;
        const bool silent = absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status);
        if (!silent && Clock::system().now() >= give_up) return status;
        if (status.message() != last_said) trouble(status);
        last_said = std::string(status.message());
        std::unique_lock lock(mutex);
        wait.wait_for(lock, stop, kBetween, [] { return false; });
        if (stop.stop_requested())
            return absl::CancelledError("the agent ends; its successor goes on: " + last_said);
    }
}

}  // namespace godwit
