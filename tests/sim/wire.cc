#include "tests/sim/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace godwit::sim {

absl::Status Wire::send(End from, SimFrame frame) {
    if (closed_[from]) return absl::UnavailableError("the connection is closed");
    const End to = from == kSourceEnd ? kDestinationEnd : kSourceEnd;
    // One on the urgent stream would end the connection.
    if (damage_next_ && !frame.pages.empty() && frame.stream != kUrgentStream) {
        world_.say("network: pages come damaged");
        frame.intact = damage_next_ = false;
    }
    if (std::exchange(lose_next_, false)) {
        world_.say(fmt::format("network: {} is lost", frame_kind_name(frame.kind)));
        lost_[to][frame.stream] = true;
        notice_later(from);
        notice_later(to);
    }
    if (!link_.up && !cut_) cut();
    // Nothing comes behind what was lost.
    if (cut_ || lost_[to][frame.stream]) return absl::OkStatus();
    MonotonicTime& last = last_arrival_[to][frame.stream];
    last = std::max(last, world_.now() + link_.slowness + std::exchange(delay_next_, {}) +
                              world_.between(microseconds(50), milliseconds(1)));
    const int times = std::exchange(repeat_next_, false) ? 2 : 1;
    for (int i = 0; i < times; ++i)
        world_.at(last, [this, to, frame, i] {
            if (cut_ || closed_[to]) return;
            if (i == 0) return deliver(to, frame);
            // Its number was there already: FrameReader ends the stream.
            notice(to, absl::DataLossError("a frame came twice"));
        });
    return absl::OkStatus();
}

void Wire::deliver(End to, const SimFrame& frame) {
    if (on_frame[to]) on_frame[to](frame);
}

void Wire::notice(End end, const absl::Status& why) {
    if (std::exchange(closed_[end], true)) return;
    if (on_closed[end]) on_closed[end](why);
    const End other = end == kSourceEnd ? kDestinationEnd : kSourceEnd;
    if (!cut_)
        world_.after(milliseconds(1),
                     [this, other] { notice(other, absl::UnavailableError("closed")); });
}

void Wire::notice_later(End end) {
    world_.after(
        world_.chance(50) ? world_.between({}, milliseconds(50)) : world_.between({}, seconds(25)),
        [this, end] { notice(end, absl::UnavailableError("the connection was lost")); });
}

void Wire::close(End end) { notice(end, absl::CancelledError("closed here")); }

void Wire::cut() {
    if (std::exchange(cut_, true)) return;
    world_.say("network: the connection is cut");
    notice_later(kSourceEnd);
    notice_later(kDestinationEnd);
}

}  // namespace godwit::sim
