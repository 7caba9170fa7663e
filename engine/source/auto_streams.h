// AutoStreams: how many data streams a migration uses when nobody says it: as many as help.
//
// Small guests get kFirst streams and pay for nothing else. For others kMost are opened, and the
// first round is sent in slices: with kFirst streams, then with one more, and so on while that
// brings kLeastGain. What is left of the round, and all later rounds, use the best number. Pure
// arithmetic, no I/O; not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "engine/base/clock.h"
#include "engine/base/units.h"

namespace godwit {

class AutoStreams {
  public:
    static constexpr size_t kFirst = 2;
    // Beyond this, links that one stream does not fill are filled (each costs a thread and 6 MiB
    // of buffers at either end).
    static constexpr size_t kMost = 8;
    static constexpr double kLeastGain = 1.10;
    // Less RAM is sent before anything is known.
    static constexpr Bytes kWorthTrying = Bytes{1} << 30;
    // A slice is at least as much, and lasts at least as long at the rate of the one before: a
    // moment's weather and the end of a slice, a round trip, must not decide.
    static constexpr Bytes kLeastSlice = Bytes{128} << 20;
    static constexpr Duration kSlice = std::chrono::milliseconds(300);

    // How many to open for a guest with so much RAM in use.
    static size_t to_open(Bytes touched) { return touched < kWorthTrying ? kFirst : kMost; }

    explicit AutoStreams(size_t opened);

    // How many the next slice is sent with.
    [[nodiscard]] size_t streams() const { return streams_; }
    // No more slices: the rest is sent with streams().
    [[nodiscard]] bool settled() const { return settled_; }
    // Pages of the next slice, while it is not settled.
    [[nodiscard]] uint64_t slice_pages() const { return slice_pages_; }

    struct Slice {
        uint64_t pages = 0;          // that were looked at
        uint64_t content_pages = 0;  // of these, sent with their content
        Duration duration{};         // until the destination had confirmed all of it
    };
    // The slice with streams() streams is over.
    void note(const Slice& slice);
    // There are no more slices: it stays with what was found to help so far.
    void settle();

  private:
    void fit_slices(const Slice& slice);

    const size_t opened_;
    size_t streams_;
    bool warm_ = false;     // the first slice finds cold caches and closed TCP windows
    double best_rate_ = 0;  // content pages a second, with one stream less; 0: none was tried yet
    bool settled_;
    uint64_t slice_pages_ = kLeastSlice / kPageBytes;
};

}  // namespace godwit
