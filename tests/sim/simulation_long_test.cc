#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/sim/simulation.h"

namespace godwit::sim {
namespace {

constexpr uint64_t kSeedsOfATest = 25000;

class ManySeeds : public testing::TestWithParam<uint64_t> {};

TEST_P(ManySeeds, LoseNoGuest) {
    const uint64_t first = GetParam() * kSeedsOfATest;
    for (uint64_t seed = first; seed < first + kSeedsOfATest; ++seed) {
        const Outcome outcome = simulate(seed);
        ASSERT_EQ(outcome.violation, "") << fmt::format("godwit-handover-sim --seed {}\n{}", seed,
                                                        fmt::join(outcome.history, "\n"));
    }
}

// 100,000 altogether.
INSTANTIATE_TEST_SUITE_P(, ManySeeds, testing::Range(uint64_t{0}, uint64_t{4}));

}  // namespace
}  // namespace godwit::sim
