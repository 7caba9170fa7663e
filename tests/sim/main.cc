// godwit-handover-sim: seeds of simulated migrations; a failing one is printed, and replays
// exactly.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "tests/sim/simulation.h"

namespace {

using namespace godwit::sim;

struct Options {
    uint64_t seeds = 5000;
    uint64_t from = 0;
    std::optional<uint64_t> only;
    Mutant mutant = Mutant::kNone;
    bool goes_on = false;
};

int run_seeds(const Options& options) {
    const uint64_t first = options.only.value_or(options.from);
    const uint64_t end = first + (options.only ? 1 : options.seeds);
    Tally tally;
    for (uint64_t seed = first; seed < end; ++seed) {
        const Outcome outcome = simulate(seed, options.mutant);
        tally.add(outcome);
        const bool is_bad = !outcome.violation.empty();
        if (options.only || (is_bad && tally.failed == 1))
            for (const std::string& line : outcome.history) std::printf("%s\n", line.c_str());
        if (!is_bad) continue;
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed),
                    outcome.violation.c_str());
        if (!options.goes_on) break;
    }
    std::printf("%s\n", tally.text().c_str());
    return tally.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Simulated migrations with everything that can go wrong, from seeds.\n"
        "Example: godwit-handover-sim --seeds 100000\n"
        "         godwit-handover-sim --seed 4711"};
    Options options;
    std::map<std::string, Mutant> names;
    for (const NamedMutant& known : mutants()) names[known.name] = known.mutant;
    app.add_option("--seeds", options.seeds, "how many")->capture_default_str();
    app.add_option("--from", options.from, "the first")->capture_default_str();
    app.add_option("--seed", options.only, "this one alone, with its history");
    app.add_option("--mutant", options.mutant, "with one step done wrong")
        ->transform(CLI::CheckedTransformer(names));
    app.add_flag("--all", options.goes_on, "go on after a seed that fails");
    CLI11_PARSE(app, argc, argv);
    return run_seeds(options);
}
