// postcopy_bench: moves the same guest by every engine in turn, and prints how they compare.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>

#include "bench/lab/lab.h"
#include "bench/lab/measure.h"
#include "bench/lab/postcopy_options.h"
#include "bench/lab/postcopy_table.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/log.h"

namespace godwit {
namespace {

nlohmann::json setting(const Lab& lab, const GuestConfig& guest, const MeasureOptions& measure) {
    nlohmann::json line = lab.setting();
    line["guest_memory_bytes"] = guest.memory;
    line["append"] = guest_append(guest);
    line["sample_period_us"] = measure.sample_period.count();
    return line;
}

std::vector<Contender> contenders(const PostcopyOptions& options, const GuestConfig& guest) {
    std::vector<Contender> all;
    for (const EngineName& engine : options.engines)
        all.push_back({.label = engine.text, .engine = engine, .guest = guest});
    return all;
}

int run_all(const PostcopyOptions& options, Lab& lab) {
    const GuestConfig guest = lab.equip(options.guest, lab.has_kvm());
    MeasureOptions measuring{.baseline = options.lab.baseline};
    const std::unique_ptr<AgentPair> agents = lab.agents({});
    Series::Options series_options = lab.series();
    series_options.shown = {"downtime_ms", "total_ms"};
    Series series(
        series_options, contenders(options, guest),
        [&](const Contender& contender) -> absl::StatusOr<Metrics> {
            GODWIT_ASSIGN_OR_RETURN(
                const std::unique_ptr<Engine> engine,
                make_engine(contender.engine, lab.setup(contender.guest, {}, *agents)));
            measuring.warm = memory_of_move(contender.engine, contender.guest);
            return measure(*engine, measuring, series_options.cancel_fd);
        },
        lab.lines());
    const nlohmann::json line = setting(lab, guest, measuring);
    lab.lines().write(line);
    const bool whole = series.run_all();
    if (lab.prints())
        std::cout << fmt::format("{}\n{}\n{}", line.dump(),
                                 render_table(series.results(), postcopy_columns()),
                                 render_ratios(series.results()))
                  << std::flush;
    if (!whole) return kInterrupted;
    return any_failed(series.results()) ? 1 : 0;
}

int run(int argc, char** argv) {
    PostcopyOptions options;
    if (const auto code = parse_postcopy_options(argc, argv, options)) return *code;
    start_logging(options.lab.program, "error");
    const auto lab = Lab::open(options.lab);
    if (lab.ok()) return run_all(options, **lab);
    std::fprintf(stderr, "postcopy_bench: %s\n", std::string(lab.status().message()).c_str());
    return 1;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
