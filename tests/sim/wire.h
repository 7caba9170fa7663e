// The network between two hosts: streams of frames, and calls.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tests/sim/world.h"
#include "transport/frame/frame_header.h"

namespace godwit::sim {

struct Link {
    bool up = true;
    Duration slowness{};  // each way
};

struct PageCopy {
    int page = 0;
    int version = 0;
};

struct SimFrame {
    FrameKind kind{};
    int stream = 0;
    int page = 0;
    int version = 0;
    uint32_t round = 0;
    std::string text;               // or the bytes of a list
    std::vector<PageCopy> pages{};  // that fill what is missing
    bool intact = true;
};

enum End { kSourceEnd = 0, kDestinationEnd = 1 };
constexpr int kDataStreams = 2;
constexpr int kUrgentStream = kDataStreams;

// One set of connections. What is sent arrives in order on each stream, or not at all.
class Wire {
  public:
    Wire(World& world, Link& link) : world_(world), link_(link) {}

    // Called when something comes, never from within send().
    std::array<std::function<void(const SimFrame&)>, 2> on_frame;
    // Once: this end has noticed that it is over.
    std::array<std::function<void(const absl::Status&)>, 2> on_closed;

    // Errors: this end knows that it is over. Ok says nothing about arrival.
    absl::Status send(End from, SimFrame frame);
    void close(End end);

    // Faults: of the stream that is used next, or of all.
    void cut();
    void lose_next() { lose_next_ = true; }
    // Of pages that fill what is missing.
    void damage_next() { damage_next_ = true; }
    void repeat_next() { repeat_next_ = true; }
    void delay_next(Duration time) { delay_next_ = time; }

  private:
    static constexpr int kStreams = kDataStreams + 1;
    void deliver(End to, const SimFrame& frame);
    void notice(End end, const absl::Status& why);
    void notice_later(End end);

    World& world_;
    Link& link_;
    std::array<bool, 2> closed_{};
    std::array<std::array<MonotonicTime, kStreams>, 2> last_arrival_{};
    std::array<std::array<bool, kStreams>, 2> lost_{};
    bool cut_ = false;
    bool lose_next_ = false;
    bool damage_next_ = false;
    bool repeat_next_ = false;
    Duration delay_next_{};
};

}  // namespace godwit::sim
