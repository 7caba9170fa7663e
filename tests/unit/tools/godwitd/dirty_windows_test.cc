#include "tools/godwitd/dirty_windows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace godwit {
namespace {

constexpr uint64_t kPages = 4 * kPagesPerChunk;

class HandClock final : public Clock {
  public:
    [[nodiscard]] MonotonicTime now() const override { return now_; }
    void set(MonotonicTime now) { now_ = now; }

  private:
    MonotonicTime now_{};
};

// A guest that writes page after page, one a millisecond, over `set` pages of two chunks. What was
// written is reported once, until it is armed again.
class SweepingGuest final : public DirtyTracker {
  public:
    SweepingGuest(const HandClock& clock, uint64_t set) : clock_(clock), set_(set) {}
    [[nodiscard]] std::string_view name() const override { return "sweep"; }
    absl::Status start() override { return absl::OkStatus(); }
    absl::Status collect(PageSet& dirty, PageSet&) override {
        if (fails_) return absl::DataLossError("the log is gone");
        const auto until = static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now().time_since_epoch())
                .count());
        for (; written_ < until; ++written_) {
            const PageIndex page = (written_ % set_) * 2;
            if (reported_.insert(page).second) dirty[0].set(page);
        }
        return absl::OkStatus();
    }
    absl::Status rearm(BlockIndex, PageRange range) override {
        reported_.erase(reported_.lower_bound(range.begin), reported_.lower_bound(range.end));
        return absl::OkStatus();
    }
    absl::Status stop() override { return absl::OkStatus(); }
    void fail() { fails_ = true; }

  private:
    const HandClock& clock_;
    const uint64_t set_;
    uint64_t written_ = 0;
    std::set<PageIndex> reported_;
    bool fails_ = false;
};

const PageSet kEmpty{PageBitmap(kPages)};
constexpr Duration kLength = std::chrono::milliseconds(12'800);

TEST(DirtyWindows, CountEachPageOncePerWindowAndHaveManyShortOnes) {
    HandClock clock;
    SweepingGuest guest(clock, 700);
    const auto samples = sample_dirty_windows(
        guest, kEmpty, kLength,
        [&](MonotonicTime moment) {
            clock.set(moment);
            return absl::OkStatus();
        },
        clock);
    ASSERT_TRUE(samples.ok()) << samples.status();
    // 8 + 1, 4 + 1, 2 + 1, 1, all.
    ASSERT_EQ(samples->size(), 19u);
    int short_ones = 0;
    for (const DirtySample& sample : *samples) {
        EXPECT_EQ(sample.pages, std::min(700.0, std::round(sample.window_s * 1e3)))
            << sample.window_s;
        // Every second page, of 1,024 the most.
        EXPECT_EQ(sample.runs, sample.pages);
        EXPECT_LE(sample.chunks, 3.0);
        EXPECT_GE(sample.chunks * kPagesPerChunk, 2 * sample.pages - 1);
        short_ones += sample.window_s < 0.101 ? 1 : 0;
    }
    EXPECT_EQ(short_ones, 8);
    EXPECT_DOUBLE_EQ(samples->back().window_s, 12.0);
}

TEST(DirtyWindows, OfAnIdleGuestAreEmptyAndNoError) {
    HandClock clock;
    class Idle final : public DirtyTracker {
        [[nodiscard]] std::string_view name() const override { return "idle"; }
        absl::Status start() override { return absl::OkStatus(); }
        absl::Status collect(PageSet&, PageSet&) override { return absl::OkStatus(); }
        absl::Status rearm(BlockIndex, PageRange) override { return absl::InternalError("none"); }
        absl::Status stop() override { return absl::OkStatus(); }
    } idle;
    const auto samples = sample_dirty_windows(
        idle, kEmpty, kLength,
        [&](MonotonicTime moment) {
            clock.set(moment);
            return absl::OkStatus();
        },
        clock);
    ASSERT_TRUE(samples.ok()) << samples.status();
    for (const DirtySample& sample : *samples) EXPECT_EQ(sample.pages, 0);
    EXPECT_TRUE(fit_dirty_curves(*samples, kPages).ok());
}

TEST(DirtyWindows, EndWhenTheVmDoesAndWhenItsLogIsLost) {
    HandClock clock;
    SweepingGuest guest(clock, 700);
    int windows = 0;
    const auto gone = [&](MonotonicTime moment) {
        clock.set(moment);
        return ++windows < 5 ? absl::OkStatus() : absl::NotFoundError("the VM ended");
    };
    EXPECT_EQ(sample_dirty_windows(guest, kEmpty, kLength, gone, clock).status().message(),
              "the VM ended");
    guest.fail();
    windows = 0;
    EXPECT_EQ(sample_dirty_windows(guest, kEmpty, kLength, gone, clock).status().message(),
              "the log is gone");
}

}  // namespace
}  // namespace godwit
