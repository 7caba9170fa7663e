#include "engine/source/in_doubt.h"

#include <condition_variable>
#include <mutex>

#include "engine/base/log.h"

namespace godwit {

std::optional<FateAnswer> ask_until_known(TransferClient& peer, const std::string& migration_id,
                                          const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wait;
    std::string last_said;
    while (!stop.stop_requested()) {
        const auto answer = peer.query(migration_id);
        std::string said = answer.ok() ? v1::IncomingState_Name(answer->state())
                                       : std::string(answer.status().message());
        // Draining before RESUMED: it resumes, and waits for a page.
        if (answer.ok() && (answer->state() == v1::INCOMING_STATE_RESUMED || answer->draining()))
            return FateAnswer{Fate::kAtDestination, answer->guest_gone(), answer->draining(),
                              answer->detail()};
        if (answer.ok() && answer->state() == v1::INCOMING_STATE_REFUSED)
            return FateAnswer{.fate = Fate::kRefused, .detail = answer->detail()};
        if (said != last_said)
            spdlog::warn("migration {}: in doubt; {} says: {}", migration_id,
                         peer.peer().to_string(), said);
        last_said = std::move(said);
        std::unique_lock lock(mutex);
        wait.wait_for(lock, stop, std::chrono::milliseconds(500), [] { return false; });
    }
    return std::nullopt;
}

}  // namespace godwit
