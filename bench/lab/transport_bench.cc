// transport_bench: moves the guests of named cases by every engine in turn, and prints what each
// took and which targets were met.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <iostream>

#include "bench/lab/lab.h"
#include "bench/lab/plain_copy.h"
#include "bench/lab/shaped_link.h"
#include "bench/lab/transport_measure.h"
#include "bench/lab/transport_options.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/log.h"

namespace godwit {
namespace {

constexpr std::array<Column, 8> kColumns{{{"total ms", "total_ms", 1, true},
                                          {"CPU s", "cpu_s", 1, true},
                                          {"user s", "cpu_user_s", 1, false},
                                          {"system s", "cpu_system_s", 1, false},
                                          {"host s", "host_busy_s", 1, false},
                                          {"downtime ms", "downtime_ms", 1, false},
                                          {"MiB", "wire_bytes", 1.0 / (1 << 20), false},
                                          {"link MiB", "link_bytes", 1.0 / (1 << 20), false}}};

absl::StatusOr<Metrics> move_once(const Contender& contender, const LabSetup& setup,
                                  const TransportMeasure& options) {
    if (contender.engine.kind == EngineKind::kCopy)
        return plain_copy(setup, contender.guest.working_set);
    GODWIT_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                            make_engine(contender.engine, setup));
    return measure_transport(*engine, options);
}

struct CaseOutcome {
    bool whole = true;  // not interrupted
    bool failed = false;
};

absl::StatusOr<CaseOutcome> run_case(const TransportCase& one, Lab& lab) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<EngineName> engines, parse_engines(one.engines));
    std::unique_ptr<ShapedLink> link;
    std::array<LabHost, 2> hosts;
    if (one.link_rate > 0) {
        GODWIT_ASSIGN_OR_RETURN(link, ShapedLink::create(one.link_rate));
        hosts = link->hosts();
    }
    const std::unique_ptr<AgentPair> agents = lab.agents(hosts);
    Series::Options options = lab.series();
    const bool kvm = lab.has_kvm() && !(one.prefers_tcg && lab.options().accel == "auto");
    options.tags = {
        {"case", one.name}, {"accel", kvm ? "kvm" : "tcg"}, {"link_bytes_per_s", one.link_rate}};
    options.shown = {"total_ms", "cpu_s", "wire_bytes"};
    TransportMeasure measure{
        .baseline = lab.options().baseline, .tells_guest = kvm, .cancel_fd = options.cancel_fd};
    if (link) measure.link_bytes = [&link] { return link->bytes(); };
    Series series(
        options, contenders_of(one, engines),
        [&](const Contender& contender) {
            measure.warm = memory_of_move(contender.engine, contender.guest);
            return move_once(contender, lab.setup(lab.equip(contender.guest, kvm), hosts, *agents),
                             measure);
        },
        lab.lines());
    std::fprintf(stderr, "case %s: %s\n", one.name.c_str(), one.about.c_str());
    const CaseOutcome outcome{.whole = series.run_all(), .failed = any_failed(series.results())};
    if (lab.prints())
        std::cout << fmt::format("\n{}: {}\n{}{}", one.name, one.about,
                                 render_table(series.results(), kColumns),
                                 render_targets(one.targets, series.results()))
                  << std::flush;
    return outcome;
}

int run(int argc, char** argv) {
    TransportOptions options;
    if (const auto code = parse_transport_options(argc, argv, options)) return *code;
    start_logging(options.lab.program, "error");
    const auto fail = [](const absl::Status& status) {
        std::fprintf(stderr, "transport_bench: %s\n", std::string(status.message()).c_str());
        return 1;
    };
    const auto lab = Lab::open(options.lab);
    if (!lab.ok()) return fail(lab.status());
    const nlohmann::json setting = (*lab)->setting();
    (*lab)->lines().write(setting);
    if ((*lab)->prints()) std::cout << setting.dump() << std::endl;
    bool failed = false;
    for (const TransportCase& one : options.cases) {
        const auto outcome = run_case(one, **lab);
        if (!outcome.ok()) return fail(outcome.status());
        if (!outcome->whole) return kInterrupted;
        failed |= outcome->failed;
    }
    return failed ? 1 : 0;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
