#include "engine/postcopy/fault_table.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

namespace godwit {
namespace {

using Key = std::pair<BlockIndex, PageIndex>;

TEST(FaultTable, IsAMapWhateverIsDoneToIt) {
    const auto table = std::make_unique<FaultTable>();
    std::map<Key, uint32_t> model;
    std::mt19937_64 random(11);
    for (int step = 0; step < 200'000; ++step) {
        // Few blocks, pages side by side and far apart: probes collide.
        const Key key{static_cast<BlockIndex>(random() % 3),
                      random() % 2 == 0 ? random() % 3000 : (random() % 3000) << 20};
        const auto known = model.find(key);
        OpenFault* found = table->find(key.first, key.second);
        ASSERT_EQ(found != nullptr, known != model.end());
        if (found != nullptr) {
            ASSERT_EQ(found->view, known->second);
            // Full again and again: more comes than goes.
            if (random() % 3 != 0) continue;
            const auto removed = table->remove(key.first, key.second);
            ASSERT_TRUE(removed.has_value());
            ASSERT_EQ(removed->page, key.second);
            model.erase(known);
        } else if (table->full()) {
            ASSERT_EQ(model.size(), FaultTable::kLimit);
            ASSERT_EQ(table->insert({.block = key.first, .page = key.second}), nullptr);
            ASSERT_FALSE(table->remove(key.first, key.second).has_value());
        } else {
            const auto view = static_cast<uint32_t>(random());
            ASSERT_NE(table->insert({.block = key.first, .view = view, .page = key.second}),
                      nullptr);
            model[key] = view;
        }
        ASSERT_EQ(table->size(), model.size());
    }
    EXPECT_GT(model.size(), FaultTable::kLimit / 2);
    for (const auto& [key, view] : model) ASSERT_NE(table->find(key.first, key.second), nullptr);
}

TEST(FaultTable, KnowsTheOldest) {
    const auto table = std::make_unique<FaultTable>();
    EXPECT_FALSE(table->oldest().has_value());
    const auto at = [](int seconds) { return MonotonicTime(std::chrono::seconds(seconds)); };
    table->insert({.page = 1, .first_seen = at(5), .asked = true});
    table->insert({.page = 2, .first_seen = at(3), .asked = true});
    EXPECT_EQ(table->oldest(), at(3));
    table->remove(0, 2);
    EXPECT_EQ(table->oldest(), at(5));
    table->forget_asked();
    EXPECT_FALSE(table->find(0, 1)->asked);
    EXPECT_EQ(table->find(0, 1)->first_seen, at(5));
}

}  // namespace
}  // namespace godwit
