#include "engine/source/auto_streams.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr uint64_t kPagesPerGiB = (Bytes{1} << 30) / kPageBytes;

// A slice over a link that carries so many pages a second.
AutoStreams::Slice slice_at(double pages_per_s, uint64_t pages) {
    return {
        .pages = pages,
        .content_pages = pages,
        .duration = Duration(static_cast<int64_t>(1e9 * static_cast<double>(pages) / pages_per_s))};
}

// Lets it try until it has settled; `rate` is what so many streams carry. Returns the slices.
template <typename Rate>
int settle(AutoStreams& streams, Rate&& rate) {
    int slices = 0;
    for (; !streams.settled() && slices < 100; ++slices)
        streams.note(slice_at(rate(streams.streams()), streams.slice_pages()));
    return slices;
}

TEST(AutoStreams, SmallGuestsGetTheFirstStreamsAndNothingToTry) {
    EXPECT_EQ(AutoStreams::to_open(AutoStreams::kWorthTrying - 1), AutoStreams::kFirst);
    EXPECT_EQ(AutoStreams::to_open(AutoStreams::kWorthTrying), AutoStreams::kMost);
    const AutoStreams streams(AutoStreams::kFirst);
    EXPECT_TRUE(streams.settled());
    EXPECT_EQ(streams.streams(), AutoStreams::kFirst);
}

TEST(AutoStreams, StayAtTheFirstWhereTheLinkIsFull) {
    AutoStreams streams(AutoStreams::kMost);
    EXPECT_EQ(settle(streams, [](size_t) { return 300'000.0; }), 3) << "warm-up, two, three";
    EXPECT_EQ(streams.streams(), AutoStreams::kFirst);
}

TEST(AutoStreams, AreAddedOneAtATimeWhileEachBringsATenth) {
    AutoStreams streams(AutoStreams::kMost);
    // Each stream carries 50,000, the link 200,000.
    settle(streams,
           [](size_t count) { return std::min(50'000.0 * static_cast<double>(count), 200'000.0); });
    EXPECT_EQ(streams.streams(), 4U);
}

TEST(AutoStreams, EndAtThoseThatAreOpen) {
    AutoStreams streams(5);
    settle(streams, [](size_t count) { return 10'000.0 * static_cast<double>(count); });
    EXPECT_EQ(streams.streams(), 5U);
}

TEST(AutoStreams, AreNotAddedForAGainThatMayBeChance) {
    AutoStreams streams(AutoStreams::kMost);
    settle(streams, [](size_t count) { return count == 2 ? 100'000.0 : 109'000.0; });
    EXPECT_EQ(streams.streams(), 2U);
}

TEST(AutoStreams, AreFewerAgainWhenOneMoreWasSlower) {
    AutoStreams streams(AutoStreams::kMost);
    settle(streams, [](size_t count) {
        return count <= 3 ? 50'000.0 * static_cast<double>(count) : 90'000.0;
    });
    EXPECT_EQ(streams.streams(), 3U);
}

TEST(AutoStreams, DoNotBelieveTheFirstSlice) {
    AutoStreams streams(AutoStreams::kMost);
    streams.note(slice_at(1'000, streams.slice_pages()));  // cold
    EXPECT_EQ(streams.streams(), 2U);
    settle(streams, [](size_t) { return 100'000.0; });
    EXPECT_EQ(streams.streams(), 2U);
}

TEST(AutoStreams, LearnNothingFromZeros) {
    AutoStreams streams(AutoStreams::kMost);
    streams.note(slice_at(100'000, streams.slice_pages()));
    for (int i = 0; i < 3; ++i) {
        AutoStreams::Slice empty = slice_at(10'000'000, streams.slice_pages());
        empty.content_pages = empty.pages / 10;
        streams.note(empty);
        EXPECT_EQ(streams.streams(), 2U);
        EXPECT_FALSE(streams.settled());
    }
}

TEST(AutoStreams, SliceSoMuchThatAMomentDoesNotDecide) {
    AutoStreams streams(AutoStreams::kMost);
    EXPECT_EQ(streams.slice_pages(), AutoStreams::kLeastSlice / kPageBytes);
    streams.note(slice_at(10.0 * kPagesPerGiB, streams.slice_pages()));
    EXPECT_NEAR(static_cast<double>(streams.slice_pages()), 3.0 * kPagesPerGiB, 1000.0);
    streams.note(slice_at(1'000, streams.slice_pages()));
    EXPECT_EQ(streams.slice_pages(), AutoStreams::kLeastSlice / kPageBytes);
}

TEST(AutoStreams, SettleOnWhatHasHelpedWhenThereIsNoMoreToTryWith) {
    AutoStreams untried(AutoStreams::kMost);
    untried.settle();
    EXPECT_EQ(untried.streams(), 2U);
    AutoStreams streams(AutoStreams::kMost);
    streams.note(slice_at(1'000, streams.slice_pages()));
    streams.note(slice_at(50'000, streams.slice_pages()));
    ASSERT_EQ(streams.streams(), 3U) << "about to be tried";
    streams.settle();
    EXPECT_EQ(streams.streams(), 2U);
    EXPECT_TRUE(streams.settled());
}

}  // namespace
}  // namespace godwit
