#include "engine/source/in_doubt.h"

#include <fmt/format.h>

#include <utility>

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

void OperatorsWord::forget() {
    const std::lock_guard lock(mutex_);
    fate_.reset();
}

void OperatorsWord::wait(Duration limit, const std::stop_token& stop) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, limit, [this] { return fate_.has_value(); });
}

bool is_guest_here(const std::weak_ptr<Vm>& guest) {
    const std::shared_ptr<Vm> vm = guest.lock();
    return vm && is_guest_here(*vm);
}

bool is_guest_here(const Vm& guest) {
    return !wait_readable(guest.gone_fd(), -1, Clock::system().now()).ok();
}

bool is_guest_running(const std::weak_ptr<Vm>& guest) {
    const std::shared_ptr<Vm> vm = guest.lock();
    if (!vm) return false;
    const absl::StatusOr<RunState> state = vm->run_state();
    return state.ok() && *state == RunState::kRunning;
}

namespace {

class AskedDoubt final : public Doubt {
  public:
    AskedDoubt(const DoubtOverGrpc& doubt, const std::stop_token& stop)
        : doubt_(doubt), stop_(stop) {}
    absl::StatusOr<v1::QueryResponse> ask() override {
        return doubt_.peer.query(doubt_.migration_id);
    }
    SourceCopy copy_here() override { return doubt_.copy_here(); }
    std::optional<Fate> operators_word() override { return doubt_.operators_word.said(); }
    void forget_word() override { doubt_.operators_word.forget(); }
    bool wait(Duration limit) override {
        doubt_.operators_word.wait(limit, stop_);
        return !stop_.stop_requested() && !(doubt_.pages_came && doubt_.pages_came());
    }
    bool may_have_pages() override { return static_cast<bool>(doubt_.pages_came); }
    void note_resumed() override {
        if (doubt_.note_resumed) doubt_.note_resumed();
    }
    void note_resolution(Fate fate) override { doubt_.note_resolution(fate); }
    void trouble(const std::string& said) override {
        doubt_.heard(fmt::format("{} says: {}", doubt_.peer.peer().to_string(), said));
    }

  private:
    const DoubtOverGrpc& doubt_;
    const std::stop_token& stop_;
};

}  // namespace

std::optional<FateAnswer> settle(Doubt& doubt) {
    std::string last_said;
    std::optional<uint64_t> missing;
    bool resumed = false;
    do {
        const absl::StatusOr<v1::QueryResponse> answer = doubt.ask();
        if (answer.ok()) {
            std::optional<FateAnswer> fate = fate_in(*answer, doubt.copy_here());
            const bool may_be_whole = doubt.may_have_pages() || missing != answer->missing_pages();
            if (fate && (!fate->lacks_pages || !may_be_whole)) return fate;
            missing = answer->missing_pages();
            if (answer->state() == v1::INCOMING_STATE_RESUMED && !std::exchange(resumed, true))
                doubt.note_resumed();
        }
        if (knows_fate(answer)) {
            doubt.forget_word();
        } else if (const std::optional<Fate> fate = doubt.operators_word()) {
            doubt.note_resolution(*fate);
            return FateAnswer{
                .fate = *fate, .by_operator = true, .detail = operators_word_text(*fate)};
        }
        std::string said =
            answer.ok() ? undecided_text(*answer) : std::string(answer.status().message());
        if (said != last_said) doubt.trouble(said);
        last_said = std::move(said);
    } while (doubt.wait(std::chrono::milliseconds(500)));
    return std::nullopt;
}

std::optional<FateAnswer> settle_doubt(const DoubtOverGrpc& doubt, const std::stop_token& stop) {
    AskedDoubt asked(doubt, stop);
    if (stop.stop_requested()) return std::nullopt;
    return settle(asked);
}

}  // namespace godwit
