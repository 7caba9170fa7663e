#include "engine/source/drain_order.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace godwit {
namespace {

using Step = DrainSteps::Step;

class DrainOrder {
  public:
    explicit DrainOrder(DrainSteps& steps) : steps_(steps) {}
    DrainEnd run(bool connected);

  private:
    // Until the connection is lost, or all is over.
    Step drive();
    Step await_resumed();
    // Nothing: there is a new connection.
    std::optional<DrainEnd> reconnect();
    absl::StatusOr<std::optional<DrainEnd>> try_reconnect();
    void note_resumed();

    DrainSteps& steps_;
    bool resumed_ = false;
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
    const Step step = steps_.await_resumed(!resumed_);
    // Whoever has run the guest cannot refuse it.
    if (step == Step::kRefused && resumed_) return Step::kLost;
    if (step == Step::kDone) note_resumed();
    return step;
}

void DrainOrder::note_resumed() {
    if (!std::exchange(resumed_, true)) steps_.now_resumed();
}

std::optional<DrainEnd> DrainOrder::reconnect() {
    while (steps_.wait_to_reconnect()) {
        const absl::StatusOr<std::optional<DrainEnd>> connected = try_reconnect();
        if (connected.ok()) return *connected;
        // Asked once more, in vain.
        if (!resumed_ && steps_.is_given_up()) return DrainEnd::kRefused;
        steps_.still_away(connected.status());
    }
    return DrainEnd::kStopped;
}

absl::StatusOr<std::optional<DrainEnd>> DrainOrder::try_reconnect() {
    GODWIT_ASSIGN_OR_RETURN(const v1::QueryResponse answer, steps_.ask_to_reconnect());
    const bool resumed = answer.state() == v1::INCOMING_STATE_RESUMED;
    if (resumed) note_resumed();
    awaits_resumed_ = !resumed;
    if (answer.draining()) {
        GODWIT_RETURN_IF_ERROR(steps_.connect(resumed));
        return std::nullopt;
    }
    if (answer.state() == v1::INCOMING_STATE_REFUSED) return DrainEnd::kRefused;
    if (resumed) return answer.guest_gone() ? DrainEnd::kGuestGone : DrainEnd::kDrained;
    return absl::UnavailableError(
        fmt::format("The destination says {}", v1::IncomingState_Name(answer.state())));
}

}  // namespace

DrainEnd drain_in_order(DrainSteps& steps, bool connected) {
    return DrainOrder(steps).run(connected);
}

}  // namespace godwit
