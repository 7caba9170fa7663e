#include "engine/postcopy/prepager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace godwit {
namespace {

TEST(Prepager, DoublesForAWalkUpToTheLimit) {
    Prepager prepager(32);
    PageIndex page = 1000;
    uint32_t before = prepager.next(0, page);
    for (int i = 0; i < 10; ++i) {
        page += before + 1;  // the guest faults behind what it was given
        const uint32_t pages = prepager.next(0, page);
        EXPECT_EQ(pages, std::min(32u, 2 * before));
        before = pages;
    }
    EXPECT_EQ(before, 32u);
}

TEST(Prepager, GivesNothingToAGuestThatJumpsAbout) {
    Prepager prepager;
    std::mt19937_64 random(3);
    uint64_t given = 0;
    for (int i = 0; i < 1000; ++i) given += prepager.next(0, random() % (uint64_t{1} << 40));
    EXPECT_LE(given, 16u);
}

TEST(Prepager, FindsAWalkAgainAfterJumps) {
    Prepager prepager;
    std::mt19937_64 random(5);
    for (int i = 0; i < 1000; ++i) prepager.next(0, random() % (uint64_t{1} << 40));
    uint32_t pages = 0;
    PageIndex page = 77;
    for (int i = 0; i < 8; ++i) page += 1 + (pages = prepager.next(0, page));
    EXPECT_EQ(pages, Prepager::kLimit);
}

TEST(Prepager, FollowsSeveralWalksAtOnce) {
    Prepager prepager;
    std::array<PageIndex, 8> walks{};
    for (size_t i = 0; i < walks.size(); ++i) walks[i] = i << 20;
    uint32_t least = 0;
    for (int step = 0; step < 10; ++step) {
        least = Prepager::kLimit;
        for (size_t i = 0; i < walks.size(); ++i) {
            const uint32_t pages = prepager.next(static_cast<BlockIndex>(i % 2), walks[i]);
            walks[i] += 1 + pages;
            least = std::min(least, pages);
        }
    }
    EXPECT_EQ(least, Prepager::kLimit);
}

TEST(Prepager, AWalkOverPagesWithGapsIsOne) {
    Prepager prepager;
    uint32_t pages = 0;
    PageIndex page = 77;
    for (int i = 0; i < 10; ++i) {
        pages = prepager.next(0, page);
        page += 1 + 3 * pages;  // every third page was to come
    }
    EXPECT_EQ(pages, Prepager::kLimit);
}

TEST(Prepager, APageThatIsAskedForAgainChangesNothing) {
    Prepager prepager;
    prepager.next(0, 100);
    const uint32_t pages = prepager.next(0, 103);
    EXPECT_EQ(prepager.next(0, 103), pages);
    EXPECT_EQ(prepager.next(0, 103), pages);
}

TEST(Prepager, CanBeSwitchedOff) {
    Prepager prepager(0);
    for (PageIndex page = 0; page < 20; ++page) EXPECT_EQ(prepager.next(0, page), 0u);
}

}  // namespace
}  // namespace godwit
