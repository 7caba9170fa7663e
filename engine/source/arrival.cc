#include "engine/source/arrival.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>

namespace godwit {
namespace {

// A libvirt that is busy takes its time over a definition.
constexpr Duration kArrivalLimit = std::chrono::seconds(30);
constexpr Duration kAskAgain = std::chrono::milliseconds(100);

}  // namespace

absl::Status await_arrival(TransferClient& peer, const std::string& migration_id,
                           const std::stop_token& stop) {
    const MonotonicTime deadline = Clock::system().now() + kArrivalLimit;
    std::mutex mutex;
    std::condition_variable_any never;  // only a stop ends the wait early
    while (!stop.stop_requested()) {
        const auto answer = peer.query(migration_id);
        const bool is_there = answer.ok() && answer->state() == v1::INCOMING_STATE_RESUMED;
        if (is_there && !answer->arrival_owed() && !answer->arrival_problem().empty())
            return absl::FailedPreconditionError(
                fmt::format("{} says: {}", peer.peer().to_string(), answer->arrival_problem()));
        if (is_there && !answer->arrival_owed()) return absl::OkStatus();
        if (Clock::system().now() >= deadline)
            return absl::DeadlineExceededError(fmt::format(
                "{} has not said that the VM is defined there: {}", peer.peer().to_string(),
                answer.ok() ? v1::IncomingState_Name(answer->state())
                            : std::string(answer.status().message())));
        std::unique_lock lock(mutex);
        never.wait_for(lock, stop, kAskAgain, [] { return false; });
    }
    return absl::CancelledError("the agent ends");
}

}  // namespace godwit
