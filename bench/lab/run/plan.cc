#include "bench/lab/run/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/lab/series.h"

namespace godwit {
namespace {

std::vector<PlannedRow> rows_of(const Row& row, const PlanOptions& options) {
    const std::string first = options.qemus.empty() ? "" : options.qemus.front().first;
    std::vector<PlannedRow> rows;
    if (row.engine.kind == EngineKind::kGodwit || row.engine.kind == EngineKind::kFleet) {
        for (size_t i = 0; i < options.builds.size(); ++i) {
            const std::string& label = options.builds[i].label;
            rows.push_back({.label = label.empty() ? row.label : row.label + "@" + label,
                            .row = row,
                            .build = i,
                            .qemu = first});
        }
        return rows;
    }
    rows.push_back({.label = row.label, .row = row, .qemu = first});
    for (size_t i = 1; i < options.qemus.size() && row.engine.kind == EngineKind::kQemu; ++i)
        rows.push_back({.label = fmt::format("{}@{}", row.label, options.qemus[i].second),
                        .row = row,
                        .qemu = options.qemus[i].first});
    return rows;
}

}  // namespace

std::vector<PlannedScenario> plan(const std::vector<Scenario>& scenarios,
                                  const PlanOptions& options) {
    std::vector<PlannedScenario> all;
    for (const Scenario& scenario : scenarios) {
        PlannedScenario planned{.scenario = scenario, .repeats = options.repeats};
        if (scenario.repeats > 0 && options.repeats == 0) planned.repeats = scenario.repeats;
        if (planned.repeats == 0) planned.repeats = PlanOptions{}.repeats;
        for (const Row& row : scenario.rows)
            for (PlannedRow& one : rows_of(row, options)) planned.rows.push_back(std::move(one));
        all.push_back(std::move(planned));
    }
    return all;
}

uint64_t guest_seed(uint64_t seed, int repeat) {
    return seed + static_cast<uint64_t>(std::max(0, repeat));
}

std::vector<Step> steps_of(const PlannedScenario& scenario, int warm_up, uint64_t seed,
                           const DoneRuns& done) {
    const auto is_done = [&](size_t row, int repeat) {
        return done.contains({scenario.scenario.name, scenario.rows[row].label, repeat});
    };
    std::vector<bool> wanted(scenario.rows.size(), false);
    for (size_t row = 0; row < scenario.rows.size(); ++row)
        for (int repeat = 0; repeat < scenario.repeats; ++repeat)
            if (!is_done(row, repeat)) wanted[row] = true;
    std::vector<Step> steps;
    for (int repeat = -warm_up; repeat < scenario.repeats; ++repeat)
        for (const size_t row : shuffled(scenario.rows.size(), seed, repeat))
            if (wanted[row] && (repeat < 0 || !is_done(row, repeat)))
                steps.push_back({row, repeat});
    return steps;
}

}  // namespace godwit
