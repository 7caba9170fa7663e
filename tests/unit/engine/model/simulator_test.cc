#include "engine/model/simulator.h"

#include <gtest/gtest.h>

#include "engine/base/units.h"
#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

constexpr double kLink = 1.25e9;

SimulatedVm vm_with(std::string_view pattern, uint64_t seed,
                    Strategy strategy = Strategy::kHybrid) {
    SimulatedVm vm = *synthetic_vm({.pattern = pattern, .noise = 0}, seed);
    vm.costs = {.setup_s = 0.1, .per_round_s = 0.002, .pause_s = 0.008};
    vm.limits = {.strategy = strategy, .on_no_converge = NoConverge::kPostcopy};
    return vm;
}

Simulation run(const std::vector<SimulatedVm>& vms, uint32_t at_a_time = 1) {
    const std::vector<SimulatedHost> hosts(2, {.link_rate = kLink, .at_a_time = at_a_time});
    const auto simulation = simulate(vms, hosts);
    EXPECT_TRUE(simulation.ok()) << simulation.status();
    return *simulation;
}

TEST(Simulator, CopiesAStoppedGuestInTheTimeThatItsPagesTake) {
    const SimulatedVm vm = vm_with("uniform", 1, Strategy::kStopAndCopy);
    const Simulation simulation = run({vm});
    const double copy_s = vm.touched_pages * kPageBytes / kLink;
    EXPECT_NEAR(simulation.migrations[0].downtime_s, copy_s + 0.008, 1e-9);
    EXPECT_NEAR(simulation.total_s, 0.1 + copy_s + 0.008, 1e-9);
}

TEST(Simulator, DoesWhatTheWorkingSetModelSays) {
    for (const std::string_view pattern : {"sequential", "uniform", "hot-set", "zipf"}) {
        for (const Strategy strategy :
             {Strategy::kPrecopy, Strategy::kHybrid, Strategy::kPostcopy}) {
            const SimulatedVm vm = vm_with(pattern, 1, strategy);
            const Simulation simulation = run({vm});
            std::vector<double> windows;
            for (double window = 0.001; window < 2; window *= 1.2) windows.push_back(window);
            const auto curves =
                fit_dirty_curves(sample_writer(*vm.writer, windows, 1), vm.touched_pages);
            const auto forecast = working_set_forecast(*curves, {.touched_pages = vm.touched_pages,
                                                                 .page_rate = exactly(kLink),
                                                                 .costs = vm.costs,
                                                                 .limits = vm.limits});
            ASSERT_TRUE(forecast.ok()) << forecast.status();
            EXPECT_EQ(forecast->end, simulation.migrations[0].end) << pattern;
            EXPECT_NEAR(forecast->total_s.mid, simulation.total_s, 0.02 * simulation.total_s)
                << pattern;
            EXPECT_NEAR(forecast->downtime_s.mid, simulation.migrations[0].downtime_s, 0.001)
                << pattern;
        }
    }
}

TEST(Simulator, SharesALinkFairly) {
    const SimulatedVm vm = vm_with("uniform", 1, Strategy::kStopAndCopy);
    const Simulation both = run({vm, vm}, 2);
    const double copy_s = 2 * vm.touched_pages * kPageBytes / kLink;
    for (const SimulatedMigration& migration : both.migrations)
        EXPECT_NEAR(migration.downtime_s, copy_s + 0.008, 1e-6);
    const Simulation serial = run({vm, vm}, 1);
    EXPECT_GT(serial.migrations[1].begin_s, 0);
    EXPECT_NEAR(serial.migrations[0].end_s, serial.migrations[1].begin_s, 1e-9);
}

TEST(Simulator, GivesTheSameForTheSameSeed) {
    const auto make = [] {
        std::vector<SimulatedVm> vms;
        std::vector<SimulatedHost> hosts(10, {.link_rate = kLink, .at_a_time = 2});
        for (uint32_t i = 0; i < 100; ++i) {
            vms.push_back(*synthetic_vm({.pattern = "mixed", .variation = 0.5}, i));
            vms.back().source = i % 10;
            vms.back().destination = (i + 1 + i / 10 % 9) % 10;
            if (vms.back().destination == vms.back().source)
                vms.back().destination = (vms.back().source + 1) % 10;
        }
        return *simulate(vms, hosts);
    };
    const Simulation first = make();
    const Simulation second = make();
    EXPECT_EQ(first.total_s, second.total_s);
    EXPECT_EQ(first.events, second.events);
    for (size_t i = 0; i < first.migrations.size(); ++i) {
        EXPECT_EQ(first.migrations[i].end_s, second.migrations[i].end_s);
        EXPECT_GT(first.migrations[i].end_s, 0);  // each came to an end
    }
}

TEST(Simulator, ReplaysATrace) {
    auto trace = std::make_shared<DirtyTrace>();
    trace->header = {.touched_pages = 1000, .block_pages = {1000}};
    trace->records = {{.time_ns = 1'000'000'000, .page_count = 10, .runs = {{0, 10}}},
                      {.time_ns = 2'000'000'000, .page_count = 10, .runs = {{5, 10}}}};
    const auto writer = trace_writer(trace);
    EXPECT_DOUBLE_EQ(writer->distinct_pages(0, 1), 10);
    EXPECT_DOUBLE_EQ(writer->distinct_pages(0, 2), 15);
    EXPECT_DOUBLE_EQ(writer->distinct_pages(0, 0.5), 5);
    EXPECT_DOUBLE_EQ(writer->distinct_pages(1, 3), 15);  // goes round
    EXPECT_DOUBLE_EQ(writer->distinct_pages(0.5, 1e6), 15);
    EXPECT_DOUBLE_EQ(writer->distinct_pages(1, 1), 0);
}

// A guest that writes faster than the link carries.
SimulatedVm restless_vm(double finish_by_s) {
    SimulatedVm vm = *synthetic_vm(
        {.pattern = "uniform", .set_pages = 1 << 18, .writes_per_s = 1e6, .noise = 0}, 1);
    vm.costs = {.setup_s = 0.1, .per_round_s = 0.002, .pause_s = 0.008};
    vm.limits = {.strategy = Strategy::kPrecopy, .on_no_converge = NoConverge::kFail};
    vm.finish_by_s = finish_by_s;
    return vm;
}

TEST(Simulator, ResumesInTimeForAllToBeOverByTheDeadline) {
    EXPECT_EQ(run({restless_vm(0)}).migrations[0].end, NextStep::kGiveUp);
    const double copy_s = restless_vm(0).touched_pages * kPageBytes / kLink;
    const SimulatedMigration in_time = run({restless_vm(3 * copy_s)}).migrations[0];
    EXPECT_EQ(in_time.end, NextStep::kPostcopy);
    EXPECT_LE(in_time.end_s, 3 * copy_s);
    EXPECT_GE(in_time.rounds, 1U);
}

TEST(Simulator, SendsNothingTwiceWhereTheDeadlineLeavesNoTimeForARound) {
    const double copy_s = restless_vm(0).touched_pages * kPageBytes / kLink;
    const SimulatedMigration late = run({restless_vm(copy_s)}).migrations[0];
    EXPECT_EQ(late.end, NextStep::kPostcopy);
    EXPECT_DOUBLE_EQ(late.page_bytes, copy_s * kLink);
    EXPECT_NEAR(late.end_s, 0.1 + 0.008 + copy_s, 1e-6);
}

TEST(Simulator, CutsARoundThatASecondVmMakesTooSlow) {
    const double copy_s = restless_vm(0).touched_pages * kPageBytes / kLink;
    SimulatedVm second = restless_vm(0);
    second.limits.strategy = Strategy::kStopAndCopy;
    second.costs.setup_s = 0.1 + copy_s / 2;
    const Simulation both = run({restless_vm(1.7 * copy_s), second}, 2);
    EXPECT_EQ(both.migrations[0].end, NextStep::kPostcopy);
    EXPECT_EQ(both.migrations[0].rounds, 1U);
    // Half had been sent; what the guest wrote of that meanwhile comes once more.
    EXPECT_GT(both.migrations[0].page_bytes, copy_s * kLink);
    EXPECT_LT(both.migrations[0].page_bytes, 1.6 * copy_s * kLink);
}

// With the whole link to itself it catches up with what it has to send again, but not at once. Of
// the first round nothing is known: there has to be time for a second one at half the rate.
TEST(Simulator, HoldsADeadlineThoughItsShareRisesInARound) {
    const double copy_s = restless_vm(0).touched_pages * kPageBytes / kLink;
    SimulatedVm second = restless_vm(0);
    second.limits.strategy = Strategy::kStopAndCopy;
    for (double part = 0.02; part < 2; part += 0.02) {
        second.touched_pages = part * restless_vm(0).touched_pages;
        const SimulatedMigration one = run({restless_vm(4.5 * copy_s), second}, 2).migrations[0];
        EXPECT_EQ(one.end, NextStep::kPostcopy) << part;
        EXPECT_LE(one.end_s, 4.5 * copy_s) << part;
    }
}

TEST(Simulator, CountsADeadlineFromEachVmsBeginning) {
    const double copy_s = restless_vm(0).touched_pages * kPageBytes / kLink;
    const Simulation two = run({restless_vm(3 * copy_s), restless_vm(3 * copy_s)});
    for (const SimulatedMigration& one : two.migrations) {
        EXPECT_EQ(one.end, NextStep::kPostcopy);
        EXPECT_LE(one.end_s - one.begin_s, 3 * copy_s);
    }
    EXPECT_EQ(two.migrations[0].rounds, two.migrations[1].rounds);
}

TEST(Simulator, RefusesHostsThatAreNotThere) {
    SimulatedVm vm = vm_with("uniform", 1);
    const std::vector<SimulatedHost> hosts(2, {.link_rate = kLink});
    vm.destination = 2;
    EXPECT_FALSE(simulate(std::vector{vm}, hosts).ok());
    vm.destination = 0;
    EXPECT_FALSE(simulate(std::vector{vm}, hosts).ok());
    vm.destination = 1;
    vm.writer = nullptr;
    EXPECT_FALSE(simulate(std::vector{vm}, hosts).ok());
    EXPECT_FALSE(simulate(std::vector{vm_with("uniform", 1)},
                          std::vector<SimulatedHost>(2, {.link_rate = 0}))
                     .ok());
    EXPECT_FALSE(synthetic_vm({.pattern = "nonsense"}, 1).ok());
}

}  // namespace
}  // namespace godwit
