// Drain: the steps of its life, which drain_order puts in order.
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "engine/base/log.h"
#include "engine/source/drain.h"

namespace godwit {
namespace {

using Mind = SourceSignals::Mind;
using Seen = SourceSignals::Seen;

// Mostly it comes within milliseconds. A lost connection is noticed without it.
constexpr Duration kAnswerLimit = std::chrono::seconds(3);

}  // namespace

class Drain::Run final : public DrainSteps {
  public:
    Run(Drain& drain, Connection first, const std::stop_token& stop)
        : drain_(drain), stop_(stop), connection_(first) {}
    Outcome run();

    Step await_resumed(bool in_doubt) override;
    void now_resumed() override { drain_.note_resumed(resumed_at_); }
    Step push() override;
    void hang_up(bool lost) override;
    bool wait_to_reconnect() override;
    absl::StatusOr<v1::QueryResponse> ask_to_reconnect() override;
    absl::Status connect(bool resumed) override;
    bool is_guest_here() override { return drain_.plan_.is_guest_here(); }
    std::optional<Fate> operators_word() override;
    void forget_word() override;
    void still_away(const absl::Status& why) override;

  private:
    Drain& drain_;
    const std::stop_token& stop_;
    Connection connection_;
    Outcome outcome_;
    v1::ReconnectResponse answer_;  // the last one to Reconnect
    MonotonicTime resumed_at_{};    // when that was heard
    bool is_hurried_ = false;       // this connection's timeouts are those of a drain
    std::optional<MonotonicTime> lost_at_;
    std::string last_said_;
    std::string heard_;  // what the destination has said of itself
};

Drain::Outcome Drain::run(Connection first, const std::function<void(MonotonicTime)>& on_resumed,
                          const std::stop_token& stop) {
    on_resumed_ = on_resumed;
    started_at_ = Clock::system().now();
    return Run(*this, first, stop).run();
}

Drain::Outcome Drain::Run::run() {
    outcome_.end = drain_in_order(
        *this, {.connected = connection_.streams != nullptr, .has_left = drain_.plan_.has_left});
    if (outcome_.end != End::kStopped) drain_.set_interrupted(false);
    if (outcome_.end == End::kDrained) outcome_.postcopy = drain_.finish(outcome_.postcopy);
    return std::move(outcome_);
}

// --- on a connection ------------------------------------------------------------------------

DrainSteps::Step Drain::Run::await_resumed(bool in_doubt) {
    const std::stop_callback wake(stop_, [this] { connection_.signals->update([](Seen&) {}); });
    const auto wait = [this](MonotonicTime deadline) {
        return connection_.signals->wait(
            "the answer to COMMIT", Mind::kPeerOnly, deadline, [this](const Seen& now) {
                return now.resumed_at || now.refused || now.gone_there || now.operator_spoke ||
                       stop_.stop_requested();
            });
    };
    if (in_doubt) drain_.set_awaited(connection_.signals);
    absl::StatusOr<Seen> seen =
        wait(in_doubt ? Clock::system().now() + kAnswerLimit : MonotonicTime::max());
    if (absl::IsDeadlineExceeded(seen.status())) {
        drain_.plan_.log->message("drain",
                                  "COMMIT was sent and is not answered: in doubt where the guest "
                                  "runs");
        spdlog::warn("migration {}: in doubt; {} does not answer COMMIT", drain_.plan_.migration_id,
                     drain_.plan_.destination.to_string());
        seen = wait(MonotonicTime::max());
    }
    if (in_doubt) drain_.set_awaited(nullptr);
    if (!seen.ok()) {
        outcome_.detail = std::string(seen.status().message());
        return Step::kLost;
    }
    if (seen->resumed_at) {
        // Whatever an operator has said just now.
        forget_word();
        resumed_at_ = *seen->resumed_at;
        return Step::kDone;
    }
    if (seen->refused || seen->gone_there) {
        forget_word();
        outcome_.detail = seen->refused ? *seen->refused : *seen->gone_there;
        return seen->refused ? Step::kRefused : Step::kGuestGone;
    }
    const std::optional<Fate> word = seen->operator_spoke ? operators_word() : std::nullopt;
    if (!word) return Step::kStopped;
    return word == Fate::kNowhere ? Step::kGuestGone : Step::kRefused;
}

DrainSteps::Step Drain::Run::push() {
    // Whoever stops the drain wakes the wait.
    const std::stop_callback wake(stop_, [this] { connection_.signals->update([](Seen&) {}); });
    if (!std::exchange(is_hurried_, true))
        if (const absl::Status status = connection_.streams->shorten_timeouts(); !status.ok())
            spdlog::debug("migration {}: {}", drain_.plan_.migration_id,
                          std::string(status.message()));
    return drain_.push(connection_, stop_, outcome_);
}

void Drain::Run::hang_up(bool lost) {
    drain_.sent_bytes_ += connection_.streams == drain_.own_streams_.get() && drain_.own_streams_
                              ? drain_.own_streams_->sent_bytes()
                              : Bytes{0};
    if (lost) {
        drain_.plan_.log->message(
            "drain", fmt::format("interrupted: {}; {}", outcome_.detail,
                                 drain_.has_left() ? "the guest waits where it needs a page"
                                                   : "in doubt where the guest runs"));
        spdlog::warn("migration {}: the drain was interrupted: {}", drain_.plan_.migration_id,
                     outcome_.detail);
        ++drain_.interruptions_;
    }
    connection_.streams->close();
    connection_ = {};
    is_hurried_ = false;
}

void Drain::note_resumed(MonotonicTime at) {
    {
        // From here on only an interruption makes room for an operator's word.
        const std::lock_guard lock(mutex_);
        resumed_ = true;
        forget_word_locked();
    }
    resumed_at_ = at;
    plan_.log->message("drain",
                       fmt::format("the guest runs at {}; {} follow", plan_.destination.to_string(),
                                   format_bytes(pending_.count() * kPageBytes)));
    if (on_resumed_) on_resumed_(at);
}

v1::Postcopy Drain::finish(const v1::Postcopy& theirs) const {
    v1::Postcopy postcopy = theirs;
    postcopy.set_used(true);
    postcopy.set_missing_pages(missing_pages_);
    postcopy.set_interruptions(interruptions_);
    postcopy.set_interrupted_ms(to_ms(interrupted_));
    if (resumed_at_ != MonotonicTime{})
        postcopy.set_drain_ms(to_ms(Clock::system().now() - resumed_at_));
    if (streams_ != nullptr) {
        postcopy.set_source_realtime(streams_->realtime());
        postcopy.set_source_cpus_awake(streams_->cpus_awake());
    }
    return postcopy;
}

// --- without one ----------------------------------------------------------------------------

bool Drain::Run::wait_to_reconnect() {
    if (!lost_at_) {
        lost_at_ = Clock::system().now();
        last_said_.clear();
        drain_.set_interrupted(true);
    }
    return drain_.wait_to_reconnect(stop_);
}

absl::StatusOr<v1::QueryResponse> Drain::Run::ask_to_reconnect() {
    GODWIT_ASSIGN_OR_RETURN(answer_, drain_.peer_.reconnect(drain_.plan_.migration_id));
    resumed_at_ = Clock::system().now();
    const v1::QueryResponse& state = answer_.state();
    if (!state.draining()) {
        outcome_.detail = state.detail();
        outcome_.postcopy = state.postcopy();
    }
    return state;
}

absl::Status Drain::Run::connect(bool resumed) {
    GODWIT_ASSIGN_OR_RETURN(connection_, drain_.connect(answer_, resumed, stop_));
    drain_.interrupted_ += Clock::system().now() - *std::exchange(lost_at_, std::nullopt);
    drain_.set_interrupted(false);
    forget_word();
    const std::string& said = answer_.state().detail();
    if (!said.empty() && std::exchange(heard_, said) != said)
        spdlog::warn("migration {}: {} says: {}", drain_.plan_.migration_id,
                     drain_.plan_.destination.to_string(), said);
    drain_.plan_.log->message("drain",
                              fmt::format("reconnected to {}; {} are still missing there{}{}",
                                          drain_.plan_.destination.to_string(),
                                          format_bytes(drain_.pending_.count() * kPageBytes),
                                          said.empty() ? "" : "; it says: ", said));
    return absl::OkStatus();
}

std::optional<Fate> Drain::Run::operators_word() {
    const std::optional<Fate> word = drain_.given_up();
    outcome_.by_operator = word.has_value();
    if (word) outcome_.detail = operators_word_text(*word);
    return word;
}

void Drain::Run::forget_word() {
    drain_.forget_word();
    outcome_.by_operator = false;
}

void Drain::Run::still_away(const absl::Status& why) {
    const std::string said(why.message());
    if (said != last_said_) {
        spdlog::warn("migration {}: {}; trying again", drain_.plan_.migration_id, said);
        drain_.plan_.log->message("drain", said + "; trying again");
    }
    last_said_ = said;
}

}  // namespace godwit
