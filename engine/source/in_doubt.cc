#include "engine/source/in_doubt.h"

#include <fmt/format.h>

#include "engine/base/wait.h"

namespace godwit {
namespace {

// A destination that has asked resumes the guest or gives it up, and answers: much sooner.
constexpr Duration kAnswersWithin = std::chrono::seconds(30);

}  // namespace

absl::Status OperatorsWord::say(Fate fate) {
    const std::lock_guard lock(mutex_);
    if (asked_at_ && clock_.now() < *asked_at_ + kAnswersWithin)
        return absl::FailedPreconditionError(
            "The destination's agent has just come back, and will soon say where the guest is; "
            "nothing was changed");
    if (fate_ && *fate_ != fate)
        return absl::FailedPreconditionError(
            fmt::format("It is settled already: {}", operators_word_text(*fate_)));
    fate_ = fate;
    changed_.notify_all();
    return absl::OkStatus();
}

bool OperatorsWord::given_back() {
    const std::lock_guard lock(mutex_);
    asked_at_ = clock_.now();
    return fate_ == Fate::kRefused;
}

std::optional<Fate> OperatorsWord::said() const {
    const std::lock_guard lock(mutex_);
    return fate_;
}

void OperatorsWord::wait(Duration limit, const std::stop_token& stop) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, limit, [this] { return fate_.has_value(); });
}

bool is_guest_here(const std::weak_ptr<Vm>& guest) {
    const std::shared_ptr<Vm> vm = guest.lock();
    return vm && !wait_readable(vm->gone_fd(), -1, Clock::system().now()).ok();
}

std::string operators_word_text(Fate fate) {
    return fate == Fate::kAtDestination
               ? "an operator said that the guest is at the destination"
               : "an operator said that the guest is at the source, and that the destination will "
                 "never run it";
}

std::optional<FateAnswer> ask_until_known(TransferClient& peer, const std::string& migration_id,
                                          const OperatorsWord& operators_word,
                                          const std::stop_token& stop,
                                          const std::function<void(const std::string&)>& heard) {
    std::string last_said;
    while (!stop.stop_requested()) {
        const auto answer = peer.query(migration_id);
        std::string said = std::string(answer.status().message());
        if (answer.ok())
            said = answer->detail().empty() ? v1::IncomingState_Name(answer->state())
                                            : answer->detail();
        // Draining before RESUMED: it resumes, and waits for a page.
        if (answer.ok() && (answer->state() == v1::INCOMING_STATE_RESUMED || answer->draining()))
            return FateAnswer{.fate = Fate::kAtDestination,
                              .guest_gone = answer->guest_gone(),
                              .draining = answer->draining(),
                              .detail = answer->detail()};
        if (answer.ok() && answer->state() == v1::INCOMING_STATE_REFUSED)
            return FateAnswer{.fate = Fate::kRefused, .detail = answer->detail()};
        if (const std::optional<Fate> fate = operators_word.said())
            return FateAnswer{
                .fate = *fate, .by_operator = true, .detail = operators_word_text(*fate)};
        if (said != last_said) heard(fmt::format("{} says: {}", peer.peer().to_string(), said));
        last_said = std::move(said);
        operators_word.wait(std::chrono::milliseconds(500), stop);
    }
    return std::nullopt;
}

}  // namespace godwit
