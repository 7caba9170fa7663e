#include "engine/base/page_bitmap.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

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

}  // namespace
}  // namespace godwit
