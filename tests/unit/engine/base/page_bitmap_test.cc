#include "engine/base/page_bitmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace godwit {
namespace {

TEST(PageBitmap, RangesRunsAndCountsAgreeWithASetOfIntegers) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 200; ++round) {
        const uint64_t size = 1 + random() % 700;
        PageBitmap bitmap(size);
        std::set<PageIndex> model;
        for (int step = 0; step < 20; ++step) {
            PageIndex begin = random() % (size + 1);
            PageIndex end = begin + random() % (size - begin + 1);
            const bool set = random() % 3 != 0;
            set ? bitmap.set_range({begin, end}) : bitmap.clear_range({begin, end});
            for (PageIndex page = begin; page < end; ++page)
                set ? (void)model.insert(page) : (void)model.erase(page);
        }
        std::set<PageIndex> seen;
        PageIndex last_end = 0;
        bitmap.for_each_run([&](PageRange run) {
            EXPECT_TRUE(run.begin > last_end || seen.empty());
            EXPECT_LT(run.begin, run.end);
            last_end = run.end;
            for (PageIndex page = run.begin; page < run.end; ++page) seen.insert(page);
        });
        EXPECT_EQ(seen, model);
        EXPECT_EQ(bitmap.count(), model.size());
        const PageIndex middle = size / 2;
        EXPECT_EQ(bitmap.count_range({middle, size}),
                  static_cast<uint64_t>(std::distance(model.lower_bound(middle), model.end())));
    }
}

TEST(PageBitmap, AddAndRemoveAreUnionAndDifference) {
    PageBitmap a(130), b(130);
    a.set_range({0, 100});
    b.set_range({90, 130});
    PageBitmap both = a;
    both.add(b);
    EXPECT_EQ(both.count(), 130U);
    both.remove(a);
    EXPECT_EQ(both.count(), 30U);
    EXPECT_EQ(both.next_set(0), 100U);
    EXPECT_EQ(a.next_clear(0), 100U);
}

// Sizes around those of a part of the summary (32,768 pages), and of a word of it (64 parts).
TEST(PageBitmap, OfManyPartsIsTheSameSetAsOneOfIntegers) {
    std::mt19937_64 random(11);
    for (int round = 0; round < 40; ++round) {
        const uint64_t size = (1 + random() % 80) * 32'768 - random() % 3 * (random() % 200);
        const auto page = [&] { return random() % size; };
        std::array<PageBitmap, 2> bitmaps{PageBitmap(size), PageBitmap(size)};
        std::array<std::set<PageIndex>, 2> models;
        for (int step = 0; step < 60; ++step) {
            PageBitmap& bitmap = bitmaps[step % 2];
            std::set<PageIndex>& model = models[step % 2];
            const PageIndex begin = page();
            const PageRange range{begin, std::min(size, begin + random() % 300)};
            switch (random() % 8) {
                case 0:
                    bitmap.set(begin);
                    model.insert(begin);
                    break;
                case 1:
                    bitmap.clear(begin);
                    model.erase(begin);
                    break;
                case 2:
                    bitmap.set_range(range);
                    for (PageIndex at = range.begin; at < range.end; ++at) model.insert(at);
                    break;
                case 3: {
                    const PageRange wide{std::min(begin, size / 2), std::max(begin, size / 2)};
                    bitmap.clear_range(wide);
                    model.erase(model.lower_bound(wide.begin), model.lower_bound(wide.end));
                    break;
                }
                case 4:
                    bitmap.add(bitmaps[(step + 1) % 2]);
                    model.insert(models[(step + 1) % 2].begin(), models[(step + 1) % 2].end());
                    break;
                case 5:
                    bitmap.remove(bitmaps[(step + 1) % 2]);
                    for (const PageIndex at : models[(step + 1) % 2]) model.erase(at);
                    break;
                case 6: {
                    const PageBitmap copy = bitmap;
                    bitmap.clear_all();
                    EXPECT_TRUE(bitmap.none());
                    EXPECT_EQ(bitmap == copy, model.empty());
                    bitmap = copy;
                    break;
                }
                default: {
                    const auto next = model.lower_bound(begin);
                    EXPECT_EQ(bitmap.next_set(begin), next == model.end() ? size : *next);
                    EXPECT_EQ(bitmap.test(begin), next != model.end() && *next == begin);
                }
            }
            ASSERT_EQ(bitmap.count(), model.size());
            ASSERT_EQ(bitmap.none(), model.empty());
        }
        std::vector<PageIndex> seen;
        bitmaps[0].for_each_run([&](PageRange run) {
            for (PageIndex at = run.begin; at < run.end; ++at) seen.push_back(at);
        });
        EXPECT_TRUE(std::equal(seen.begin(), seen.end(), models[0].begin(), models[0].end()));
    }
}

// The streams of a round note what they leave out, each of chunks of its own.
TEST(PageBitmap, ThreadsMayAddWordsOfTheirOwn) {
    constexpr uint64_t kWords = 512 * 64;
    for (int round = 0; round < 20; ++round) {
        PageBitmap bitmap(kWords * 64);
        std::vector<std::jthread> threads;
        for (size_t thread = 0; thread < 4; ++thread)
            threads.emplace_back([&bitmap, thread] {
                for (size_t word = thread * 8; word < kWords; word += 4 * 128)
                    bitmap.add_word(word, 1);
            });
        threads.clear();
        ASSERT_EQ(bitmap.count(), kWords / 128);
    }
}

TEST(PageBitmap, OfNothingHasNoPages) {
    PageBitmap empty;
    EXPECT_EQ(empty.count(), 0U);
    EXPECT_EQ(empty.next_set(0), 0U);
    EXPECT_TRUE(empty.none());
    const PageBitmap copy = empty;
    EXPECT_TRUE(copy == empty);
    PageBitmap moved(100);
    moved.set(3);
    empty = std::move(moved);
    EXPECT_EQ(empty.count(), 1U);
    const PageBitmap of_moved = moved;  // NOLINT(bugprone-use-after-move): that it has no pages
    EXPECT_TRUE(of_moved.none());
    moved = empty;
    EXPECT_TRUE(moved.test(3));
}

}  // namespace
}  // namespace godwit
