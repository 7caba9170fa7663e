#include "tests/sim/simulation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace godwit::sim {
namespace {

constexpr uint64_t kSeeds = 5000;

Tally simulate_all(uint64_t seeds) {
    Tally tally;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
        const Outcome outcome = simulate(seed);
        tally.add(outcome);
        EXPECT_EQ(outcome.violation, "") << fmt::format("godwit-handover-sim --seed {}\n{}", seed,
                                                        fmt::join(outcome.history, "\n"));
        if (!outcome.violation.empty()) break;
    }
    return tally;
}

// A simulation in which nothing goes wrong proves nothing.
void expect_every_end(const Tally& tally) {
    EXPECT_GT(tally.at_source, tally.runs / 10);
    EXPECT_GT(tally.at_destination, tally.runs / 10);
    EXPECT_GT(tally.died, tally.runs / 100);
    EXPECT_GT(tally.in_doubt, tally.runs / 100);
    EXPECT_GT(tally.operator_spoke, tally.runs / 1000);
    EXPECT_GT(tally.drained, tally.runs / 10);
}

TEST(Simulation, LosesNoGuestInFiveThousandSeeds) { expect_every_end(simulate_all(kSeeds)); }

TEST(Simulation, ReplaysASeedExactly) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
        const Outcome once = simulate(seed);
        const Outcome again = simulate(seed);
        ASSERT_EQ(once.history, again.history) << "seed " << seed;
        ASSERT_EQ(once.violation, again.violation) << "seed " << seed;
    }
    EXPECT_NE(simulate(0).history, simulate(1).history);
}

class OneStepDoneWrong : public testing::TestWithParam<NamedMutant> {};

TEST_P(OneStepDoneWrong, IsFound) {
    // What needs three troubles at the right moments is rare.
    constexpr uint64_t kMost = 16 * kSeeds;
    const uint64_t first = GetParam().first_seed;
    for (uint64_t seed = first; seed < first + kMost; ++seed)
        if (!simulate(seed, GetParam().mutant).violation.empty()) return;
    FAIL() << "no seed of " << kMost << " from " << first << " on finds " << GetParam().name;
}

INSTANTIATE_TEST_SUITE_P(, OneStepDoneWrong, testing::ValuesIn(mutants()), [](const auto& named) {
    std::string name = named.param.name;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

}  // namespace
}  // namespace godwit::sim
