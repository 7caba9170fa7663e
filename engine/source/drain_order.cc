#include "engine/source/drain_order.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace godwit {
namespace {

using Step = DrainSteps::Step;

class DrainOrder {
  public:
    DrainOrder(DrainSteps& steps, bool has_left) : steps_(steps), has_left_(has_left) {}
    DrainEnd run(bool connected);

  private:
    // Until the connection is lost, or all is over.
    Step drive();
    Step await_resumed();
    // Nothing: there is a new connection.
    std::optional<DrainEnd> reconnect();
    absl::StatusOr<std::optional<DrainEnd>> try_reconnect();
    void note_resumed();
    SourceCopy copy_here();

    DrainSteps& steps_;
    bool has_left_;               // RESUMED was heard, whoever heard it
    bool resumed_ = false;        // by us
    bool awaits_resumed_ = true;  // by the destination's agent of now: before, it takes no push
};

DrainEnd end_of(Step step) {
    switch (step) {
        case Step::kDrained:
            return DrainEnd::kDrained;
        case Step::kGuestGone:
            return DrainEnd::kGuestGone;
        case Step::kRefused:
            return DrainEnd::kRefused;
        default:
            return DrainEnd::kStopped;
    }
}

DrainEnd DrainOrder::run(bool connected) {
    while (true) {
        if (!connected)
            if (const std::optional<DrainEnd> end = reconnect()) return *end;
        const Step step = drive();
        steps_.hang_up(step == Step::kLost);
        if (step != Step::kLost) return end_of(step);
        connected = false;
    }
}

Step DrainOrder::drive() {
    if (awaits_resumed_) {
        if (const Step step = await_resumed(); step != Step::kDone) return step;
        awaits_resumed_ = false;
    }
    Step step = Step::kDone;
    while (step == Step::kDone) step = steps_.push();
    return step;
}

Step DrainOrder::await_resumed() {
    const Step step = steps_.await_resumed(!has_left_);
    // Whoever has run the guest cannot refuse it.
    if (step == Step::kRefused && has_left_) return Step::kLost;
    if (step == Step::kDone) note_resumed();
    return step;
}

void DrainOrder::note_resumed() {
    has_left_ = true;
    if (!std::exchange(resumed_, true)) steps_.now_resumed();
}

std::optional<DrainEnd> DrainOrder::reconnect() {
    while (steps_.wait_to_reconnect()) {
        const absl::StatusOr<std::optional<DrainEnd>> connected = try_reconnect();
        if (connected.ok()) return *connected;
        // Asked once more, in vain.
        const std::optional<Fate> word = steps_.operators_word();
        if (word == Fate::kNowhere) return DrainEnd::kGuestGone;
        if (word == Fate::kRefused && !has_left_) return DrainEnd::kRefused;
        steps_.still_away(connected.status());
    }
    return DrainEnd::kStopped;
}

SourceCopy DrainOrder::copy_here() {
    if (has_left_) return SourceCopy::kLeft;
    return steps_.is_guest_here() ? SourceCopy::kStands : SourceCopy::kEnded;
}

absl::StatusOr<std::optional<DrainEnd>> DrainOrder::try_reconnect() {
    const absl::StatusOr<v1::QueryResponse> answer = steps_.ask_to_reconnect();
    GODWIT_RETURN_IF_ERROR(answer.status());
    if (knows_fate(answer)) steps_.forget_word();
    const bool resumed = answer->state() == v1::INCOMING_STATE_RESUMED;
    if (resumed) note_resumed();
    awaits_resumed_ = !resumed;
    if (answer->draining()) {
        GODWIT_RETURN_IF_ERROR(steps_.connect(resumed));
        return std::nullopt;
    }
    const std::optional<FateAnswer> fate = fate_in(*answer, copy_here());
    if (!fate)
        return absl::UnavailableError(
            fmt::format("The destination says {}{}{}", v1::IncomingState_Name(answer->state()),
                        answer->detail().empty() ? "" : ": ", answer->detail()));
    if (fate->fate == Fate::kRefused) return DrainEnd::kRefused;
    return fate->guest_gone ? DrainEnd::kGuestGone : DrainEnd::kDrained;
}

}  // namespace

DrainEnd drain_in_order(DrainSteps& steps, const DrainBegin& begin) {
    return DrainOrder(steps, begin.has_left).run(begin.connected);
}

}  // namespace godwit
