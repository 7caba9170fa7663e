// The engine's policy against an oracle that knows what the guest is going to write.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "engine/base/units.h"
#include "engine/model/simulator.h"
#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

constexpr double kLinkRate = 1.25e9;
constexpr uint64_t kTraces = 1000;

// What is best, known from the start.
struct OracleChoice {
    bool fits = false;    // the rest comes under its limit within the limits on rounds and data
    uint32_t rounds = 0;  // until it fits; else until another round no longer helps
};

OracleChoice ask_oracle(const SimulatedVm& vm) {
    const ConvergenceLimits& limits = vm.limits;
    const double allowed_s = limits.strategy == Strategy::kHybrid
                                 ? to_seconds(limits.last_set_limit)
                                 : to_seconds(limits.downtime_limit) - vm.costs.pause_s;
    std::vector<double> rest{vm.touched_pages};
    double now_s = 0;
    double sent = 0;
    while (rest.size() <= limits.max_rounds) {
        const double round_s = rest.back() * kPageBytes / kLinkRate + vm.costs.per_round_s;
        sent += rest.back();
        rest.push_back(
            std::min(vm.touched_pages, vm.writer->distinct_pages(now_s, now_s + round_s)));
        now_s += round_s;
        if (rest.back() * kPageBytes / kLinkRate <= allowed_s)
            return {.fits = true, .rounds = static_cast<uint32_t>(rest.size() - 1)};
        if (sent > limits.max_data * vm.touched_pages) break;
    }
    const double least = *std::min_element(rest.begin() + 1, rest.end());
    const auto best = std::find_if(rest.begin() + 1, rest.end(),
                                   [&](double pages) { return pages * kLeastShrink <= least; });
    return {.rounds = static_cast<uint32_t>(best - rest.begin())};
}

SimulatedVm random_vm(uint64_t seed, Strategy strategy, NoConverge otherwise) {
    Dice dice(seed * 7919);
    const double touched = dice.log_between(1 << 16, 1 << 21);  // 256 MiB to 8 GiB
    SimulatedVm vm = *synthetic_vm({.pattern = kPatternNames[seed % 5],
                                    .touched_pages = touched,
                                    .set_pages = touched * dice.log_between(0.001, 1),
                                    .writes_per_s = dice.log_between(1e3, 2e6)},
                                   seed);
    vm.costs = {.per_round_s = 0.002, .pause_s = 0.008};
    vm.limits = {.strategy = strategy, .on_no_converge = otherwise};
    return vm;
}

struct Tally {
    int fits = 0;  // of the oracle
    int forced = 0;
    int agree = 0;
    int both_forced = 0;
    int either_forced = 0;
    int late = 0;  // more than 2 rounds after the oracle
    uint32_t latest = 0;
};

Tally hold_against_oracle(Strategy strategy, NoConverge otherwise, const char* name) {
    Tally tally;
    const std::vector<SimulatedHost> hosts(2, {.link_rate = kLinkRate});
    for (uint64_t seed = 1; seed <= kTraces; ++seed) {
        const SimulatedVm vm = random_vm(seed, strategy, otherwise);
        const OracleChoice oracle = ask_oracle(vm);
        const auto simulation = simulate(std::vector{vm}, hosts);
        EXPECT_TRUE(simulation.ok());
        const SimulatedMigration& ours = simulation->migrations[0];
        const bool fits = ours.end == NextStep::kSwitch && ours.throttle_percent == 0;
        ++(oracle.fits ? tally.fits : tally.forced);
        tally.agree += fits == oracle.fits ? 1 : 0;
        tally.both_forced += !fits && !oracle.fits ? 1 : 0;
        tally.either_forced += !fits || !oracle.fits ? 1 : 0;
        if (ours.rounds <= oracle.rounds || otherwise == NoConverge::kThrottle) continue;
        tally.latest = std::max(tally.latest, ours.rounds - oracle.rounds);
        tally.late += ours.rounds - oracle.rounds > 2 ? 1 : 0;
    }
    std::printf(
        "%s: seeds 1-%d: oracle fits %d, forced %d; agree %.1f %%, forced by both %d of %d; "
        "%d more than 2 rounds late, at most %u\n",
        name, static_cast<int>(kTraces), tally.fits, tally.forced, 100.0 * tally.agree / kTraces,
        tally.both_forced, tally.either_forced, tally.late, tally.latest);
    return tally;
}

TEST(PolicyAgainstOracle, HybridGoesPostCopyWhenRoundsNoLongerHelp) {
    const Tally tally = hold_against_oracle(Strategy::kHybrid, NoConverge::kPostcopy, "hybrid");
    EXPECT_GE(tally.agree, 950);
    EXPECT_EQ(tally.late, 0);
}

TEST(PolicyAgainstOracle, PreCopyThrottlesOnlyWhereItMust) {
    const Tally tally = hold_against_oracle(Strategy::kPrecopy, NoConverge::kThrottle, "throttle");
    EXPECT_GE(tally.agree, 950);
}

TEST(PolicyAgainstOracle, PreCopyFailsOnlyWhereItMust) {
    const Tally tally = hold_against_oracle(Strategy::kPrecopy, NoConverge::kFail, "fail");
    EXPECT_GE(tally.agree, 950);
}

}  // namespace
}  // namespace godwit
