#include "bench/lab/prediction/grid.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace godwit {
namespace {

TEST(PredictionGrid, IsTheSameForTheSameSeedOnly) {
    const auto names = [](uint64_t seed) {
        std::vector<std::string> all;
        for (const GridCell& cell : prediction_grid(seed))
            all.push_back(cell.name + (cell.held_out ? " held out" : ""));
        return all;
    };
    EXPECT_EQ(names(1), names(1));
    EXPECT_NE(names(1), names(2));
}

TEST(PredictionGrid, HoldsAThirdOfEachLinkOutAndRunsItLast) {
    std::map<Bytes, std::pair<int, int>> links;  // tuned, held out
    for (const GridCell& cell : prediction_grid(7)) {
        auto& [tuned, held_out] = links[cell.link_bytes_per_s];
        EXPECT_TRUE(cell.held_out || held_out == 0) << cell.name;
        ++(cell.held_out ? held_out : tuned);
    }
    ASSERT_EQ(links.size(), 3U);
    for (const auto& [link, counts] : links) {
        EXPECT_EQ(counts.first, 18) << link;
        EXPECT_EQ(counts.second, 10) << link;
    }
}

TEST(PredictionGrid, HasNamesOfItsOwnAndEveryValueOfEveryAxis) {
    for (const uint64_t seed : {1, 2, 3}) {
        std::set<std::string> names;
        std::set<std::string> patterns;
        std::set<std::string> strategies;
        std::set<Bytes> sets;
        int heavy = 0;
        int calm = 0;
        for (const GridCell& cell : prediction_grid(seed)) {
            names.insert(cell.name);
            patterns.insert(cell.pattern);
            strategies.insert(cell.strategy);
            sets.insert(cell.working_set);
            if (cell.strategy == "precopy" || cell.strategy == "hybrid")
                ++(cell.write_share > 1 ? heavy : calm);
        }
        EXPECT_EQ(names.size(), 84U);
        EXPECT_EQ(patterns, (std::set<std::string>{"hot:90/10", "random", "seq"}));
        EXPECT_EQ(strategies.size(), 4U);
        EXPECT_EQ(sets.size(), 3U);
        // Not all that write more than the link carries fail to converge: a guest writes 44,000
        // pages a second at most.
        EXPECT_GE(heavy, 36);
        EXPECT_GE(calm, 24);
    }
}

TEST(PredictionGrid, GuestsWriteAPartOfWhatTheLinkCarries) {
    const GridCell cell{.pattern = "seq",
                        .fill = "text",
                        .write_share = 0.5,
                        .working_set = Bytes{32} << 20,
                        .link_bytes_per_s = 8192 * 1000};
    EXPECT_EQ(cell.writes_per_s(), 1000U);
    EXPECT_EQ(guest_append(guest_of(cell)),
              "ws=32768K rate=1000 sweep=0 seed=1 pattern=seq fill=text change=4064 "
              "rest=halt");
}

TEST(PredictionGrid, AGuestThatWritesNearlyNothingIsNotFlatOut) {
    EXPECT_EQ((GridCell{.write_share = 1e-9, .link_bytes_per_s = 1000}).writes_per_s(), 1U);
}

}  // namespace
}  // namespace godwit
