#include "engine/postcopy/push_order.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

using Places = std::vector<ChunkPlace>;

PageSet empty_set() { return {PageBitmap(8 * kPagesPerChunk), PageBitmap(2 * kPagesPerChunk)}; }

Places share(const PushOrder& order, size_t stream) {
    const auto places = order.share(stream);
    return {places.begin(), places.end()};
}

TEST(PushOrder, HotChunksComeFirst) {
    PageSet all = empty_set();
    PageSet hot = empty_set();
    for (const ChunkIndex chunk : {0, 1, 2, 4, 6}) all[0].set(chunk * kPagesPerChunk + 9);
    all[1].set(5);
    hot[0].set_range({4 * kPagesPerChunk, 4 * kPagesPerChunk + 3});
    hot[0].set_range({2 * kPagesPerChunk, 2 * kPagesPerChunk + 40});
    hot[0].set(3 * kPagesPerChunk);  // not to be sent
    hot[1].set_range({0, 3});
    const PushOrder order(all, hot, 1);
    EXPECT_EQ(share(order, 0), (Places{{0, 2}, {0, 4}, {1, 0}, {0, 0}, {0, 1}, {0, 6}}));
}

TEST(PushOrder, AChunkStaysOnItsStream) {
    PageSet all = empty_set();
    all[0].set_range({0, 8 * kPagesPerChunk});
    all[1].set_range({0, 2 * kPagesPerChunk});
    const PushOrder order(all, empty_set(), 3);
    EXPECT_EQ(share(order, 0), (Places{{0, 0}, {0, 3}, {0, 6}}));
    EXPECT_EQ(share(order, 1), (Places{{0, 1}, {0, 4}, {0, 7}, {1, 0}}));
    EXPECT_EQ(share(order, 2), (Places{{0, 2}, {0, 5}, {1, 1}}));
}

TEST(PushOrder, OfNothingIsEmpty) {
    const PushOrder order(empty_set(), empty_set(), 2);
    EXPECT_TRUE(order.share(0).empty());
    EXPECT_TRUE(order.share(1).empty());
}

}  // namespace
}  // namespace godwit
