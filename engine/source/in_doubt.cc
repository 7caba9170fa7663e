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

namespace {

std::optional<FateAnswer> fate_in(const v1::QueryResponse& answer) {
    // Draining before RESUMED: it resumes, and waits for a page.
    if (answer.state() == v1::INCOMING_STATE_RESUMED || answer.draining())
        return FateAnswer{.fate = Fate::kAtDestination,
                          .guest_gone = answer.guest_gone(),
                          .draining = answer.draining(),
                          .detail = answer.detail()};
    if (answer.state() == v1::INCOMING_STATE_REFUSED)
        return FateAnswer{.fate = Fate::kRefused, .detail = answer.detail()};
    return std::nullopt;
}

class DoubtOverGrpc final : public Doubt {
  public:
    DoubtOverGrpc(TransferClient& peer, const std::string& migration_id,
                  const OperatorsWord& operators_word,
                  const std::function<void(Fate)>& note_resolution,
                  const std::function<void(const std::string&)>& heard, const std::stop_token& stop)
        : peer_(peer),
          id_(migration_id),
          operators_word_(operators_word),
          note_(note_resolution),
          heard_(heard),
          stop_(stop) {}
    absl::StatusOr<v1::QueryResponse> ask() override { return peer_.query(id_); }
    std::optional<Fate> operators_word() override { return operators_word_.said(); }
    bool wait(Duration limit) override {
        operators_word_.wait(limit, stop_);
        return !stop_.stop_requested();
    }
    void note_resolution(Fate fate) override { note_(fate); }
    void trouble(const std::string& said) override {
        heard_(fmt::format("{} says: {}", peer_.peer().to_string(), said));
    }

  private:
    TransferClient& peer_;
    const std::string& id_;
    const OperatorsWord& operators_word_;
    const std::function<void(Fate)>& note_;
    const std::function<void(const std::string&)>& heard_;
    const std::stop_token& stop_;
};

}  // namespace

std::optional<FateAnswer> settle(Doubt& doubt) {
    std::string last_said;
    do {
        const absl::StatusOr<v1::QueryResponse> answer = doubt.ask();
        if (answer.ok())
            if (std::optional<FateAnswer> fate = fate_in(*answer)) return fate;
        if (const std::optional<Fate> fate = doubt.operators_word()) {
            doubt.note_resolution(*fate);
            return FateAnswer{
                .fate = *fate, .by_operator = true, .detail = operators_word_text(*fate)};
        }
        std::string said = std::string(answer.status().message());
        if (answer.ok())
            said = answer->detail().empty() ? v1::IncomingState_Name(answer->state())
                                            : answer->detail();
        if (said != last_said) doubt.trouble(said);
        last_said = std::move(said);
    } while (doubt.wait(std::chrono::milliseconds(500)));
    return std::nullopt;
}

std::optional<FateAnswer> settle_doubt(TransferClient& peer, const std::string& migration_id,
                                       const OperatorsWord& operators_word,
                                       const std::function<void(Fate)>& note_resolution,
                                       const std::function<void(const std::string&)>& heard,
                                       const std::stop_token& stop) {
    DoubtOverGrpc doubt(peer, migration_id, operators_word, note_resolution, heard, stop);
    if (stop.stop_requested()) return std::nullopt;
    return settle(doubt);
}

}  // namespace godwit
