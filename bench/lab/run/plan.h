// The plan of a run: which row when, so that what slows the host for a while slows all alike.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "bench/lab/scenario/scenario.h"

namespace godwit {

// A build of Godwit to compare with another one.
struct Build {
    std::string label;    // empty: this one, the only one
    std::string bin_dir;  // empty: beside this program
};

// A row as it is run: of one build, with one QEMU.
struct PlannedRow {
    std::string label;
    Row row;
    size_t build = 0;  // index into PlanOptions::builds
    std::string qemu;
};

struct PlannedScenario {
    Scenario scenario;
    std::vector<PlannedRow> rows;
    int repeats = 0;
};

struct PlanOptions {
    int repeats = 5;
    std::vector<Build> builds{{}};
    // Programs and their labels; the first one runs everything, the others QEMU's rows once more.
    std::vector<std::pair<std::string, std::string>> qemus;
};

// Rows of Godwit once for each build, rows of QEMU once for each QEMU: "qemu-precopy@10.1.0".
std::vector<PlannedScenario> plan(const std::vector<Scenario>& scenarios,
                                  const PlanOptions& options);

struct Step {
    size_t row = 0;
    int repeat = 0;  // below 0: warm-up
};
// Of the guests of a repeat: each repeat has other writes and pages, all rows of it the same.
uint64_t guest_seed(uint64_t seed, int repeat);
using DoneRuns = std::set<std::tuple<std::string, std::string, int>>;  // scenario, row, repeat

// Each repeat runs every row once, in an order shuffled by the seed; `warm_up` repeats come before.
// What is in `done` is left out, and so is the warm-up of rows that have nothing left to do.
std::vector<Step> steps_of(const PlannedScenario& scenario, int warm_up, uint64_t seed,
                           const DoneRuns& done);

}  // namespace godwit
