// godwit-sim: migrations of any number of VMs, simulated; a recorded trace or synthetic writers.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/base/units.h"
#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

constexpr uint32_t kMostVms = 1'000'000;

struct SimOptions {
    uint32_t vms = 1;
    uint32_t hosts = 2;
    uint32_t at_a_time = 1;
    uint64_t seed = 1;
    std::string pattern = "mixed";
    std::string trace;
    std::string memory = "4GiB";
    std::string set = "256MiB";
    std::string link = "10Gbit";
    std::string vm_rate;  // empty: no limit of its own
    std::string downtime_limit = "50ms";
    std::string pause = "8ms";
    double writes_per_s = 20'000;
    double noise = 0.02;
    double variation = 0.5;
    double wire_share = 1;
    Strategy strategy = Strategy::kHybrid;
    NoConverge otherwise = NoConverge::kPostcopy;
    uint32_t max_rounds = 30;
    double max_data = 3;
    bool json = false;
};

void add_options(CLI::App& app, SimOptions& options) {
    app.add_option("--vms", options.vms)->check(CLI::Range(1U, kMostVms))->capture_default_str();
    app.add_option("--hosts", options.hosts)
        ->check(CLI::Range(2U, kMostVms))
        ->capture_default_str();
    app.add_option("--at-a-time", options.at_a_time, "Migrations of a host at a time, each way")
        ->check(CLI::Range(1U, 10'000U))
        ->capture_default_str();
    app.add_option("--seed", options.seed)->capture_default_str();
    app.add_option("--pattern", options.pattern, "What the guests write")
        ->check(CLI::IsMember(
            std::vector<std::string>(std::begin(kPatternNames), std::end(kPatternNames))))
        ->capture_default_str();
    app.add_option("--trace", options.trace, "Replay this dirty trace in every VM instead");
    app.add_option("--memory", options.memory, "Touched RAM of a VM")->capture_default_str();
    app.add_option("--set", options.set, "Working set of a VM")->capture_default_str();
    app.add_option("--writes", options.writes_per_s, "Page writes per second of a VM")
        ->capture_default_str();
    app.add_option("--noise", options.noise, "Relative deviation of what a round finds")
        ->capture_default_str();
    app.add_option("--variation", options.variation, "By how much the VMs differ, 0 to 1")
        ->capture_default_str();
    app.add_option("--link", options.link, "Of each host, each way")->capture_default_str();
    app.add_option("--vm-rate", options.vm_rate, "The most that one VM's streams manage");
    app.add_option("--wire-share", options.wire_share, "Wire bytes per page byte")
        ->capture_default_str();
    const std::map<std::string, Strategy> strategies{{"stop-and-copy", Strategy::kStopAndCopy},
                                                     {"precopy", Strategy::kPrecopy},
                                                     {"postcopy", Strategy::kPostcopy},
                                                     {"hybrid", Strategy::kHybrid}};
    app.add_option("--strategy", options.strategy)
        ->transform(CLI::CheckedTransformer(strategies))
        ->default_str("hybrid");
    const std::map<std::string, NoConverge> otherwise{{"fail", NoConverge::kFail},
                                                      {"stop-and-copy", NoConverge::kStopAndCopy},
                                                      {"postcopy", NoConverge::kPostcopy},
                                                      {"throttle", NoConverge::kThrottle}};
    app.add_option("--on-no-converge", options.otherwise)
        ->transform(CLI::CheckedTransformer(otherwise))
        ->default_str("postcopy");
    app.add_option("--downtime-limit", options.downtime_limit)->capture_default_str();
    app.add_option("--pause", options.pause, "Device state, load and resume")
        ->capture_default_str();
    app.add_option("--max-rounds", options.max_rounds)->capture_default_str();
    app.add_option("--max-data", options.max_data)->capture_default_str();
    app.add_flag("--json", options.json);
    app.footer("Example: godwit-sim --vms 10000 --hosts 500 --pattern mixed --seed 7 --json");
}

absl::StatusOr<SimulatedVm> traced_vm(const std::shared_ptr<const DirtyTrace>& trace) {
    SimulatedVm vm{.touched_pages = static_cast<double>(trace->header.touched_pages)};
    vm.writer = trace_writer(trace);
    return vm;
}

absl::StatusOr<std::shared_ptr<const DirtyTrace>> load_trace(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return absl::NotFoundError("Cannot open " + path + "; is the path right?");
    absl::StatusOr<DirtyTrace> trace = read_trace(in);
    if (!trace.ok()) return annotate(trace.status(), path);
    return std::make_shared<const DirtyTrace>(*std::move(trace));
}

absl::StatusOr<std::vector<SimulatedVm>> make_vms(const SimOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(const Bytes memory, parse_bytes(options.memory));
    GODWIT_ASSIGN_OR_RETURN(const Bytes set, parse_bytes(options.set));
    GODWIT_ASSIGN_OR_RETURN(const Duration limit, parse_duration(options.downtime_limit));
    GODWIT_ASSIGN_OR_RETURN(const Duration pause, parse_duration(options.pause));
    double vm_rate = kMostRate;
    if (!options.vm_rate.empty()) {
        GODWIT_ASSIGN_OR_RETURN(const Bytes rate, parse_rate(options.vm_rate));
        vm_rate = static_cast<double>(rate);
    }
    std::shared_ptr<const DirtyTrace> trace;
    if (!options.trace.empty()) {
        GODWIT_ASSIGN_OR_RETURN(trace, load_trace(options.trace));
    }
    std::vector<SimulatedVm> vms;
    const uint64_t touched_pages = memory / kPageBytes;
    const uint64_t set_pages = set / kPageBytes;
    Dice dice(options.seed);
    for (uint32_t i = 0; i < options.vms; ++i) {
        const auto seed = static_cast<uint64_t>(dice.roll() * 0x1p53);
        GODWIT_ASSIGN_OR_RETURN(
            SimulatedVm vm, trace
                                ? traced_vm(trace)
                                : synthetic_vm({.pattern = options.pattern,
                                                .touched_pages = static_cast<double>(touched_pages),
                                                .set_pages = static_cast<double>(set_pages),
                                                .writes_per_s = options.writes_per_s,
                                                .noise = options.noise,
                                                .variation = options.variation},
                                               seed));
        vm.source = i % options.hosts;
        const auto hop = static_cast<uint32_t>(dice.roll() * (options.hosts - 1));
        vm.destination = (vm.source + 1 + hop) % options.hosts;
        vm.most_page_rate = vm_rate;
        vm.wire_share = options.wire_share;
        vm.costs = {.setup_s = 0.1, .per_round_s = 0.002, .pause_s = to_seconds(pause)};
        vm.limits = {.strategy = options.strategy,
                     .on_no_converge = options.otherwise,
                     .downtime_limit = limit,
                     .max_rounds = options.max_rounds,
                     .max_data = options.max_data};
        vms.push_back(std::move(vm));
    }
    return vms;
}

double at_quantile(std::vector<double> values, double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

std::string_view end_word(const SimulatedMigration& migration) {
    switch (migration.end) {
        case NextStep::kSwitch:
            return migration.throttle_percent > 0 ? "throttled" : "converged";
        case NextStep::kStopAndCopy:
            return "stop_and_copy";
        case NextStep::kPostcopy:
            return "postcopy";
        default:
            return "gave_up";
    }
}

nlohmann::ordered_json summary_of(const SimOptions& options, const Simulation& simulation) {
    std::vector<double> times;
    std::vector<double> downtimes;
    std::map<std::string_view, uint32_t> ends;
    double page_bytes = 0;
    for (const SimulatedMigration& migration : simulation.migrations) {
        times.push_back(migration.end_s - migration.begin_s);
        downtimes.push_back(migration.downtime_s * 1e3);
        page_bytes += migration.page_bytes;
        ++ends[end_word(migration)];
    }
    nlohmann::ordered_json json{{"seed", options.seed},     {"vms", options.vms},
                                {"hosts", options.hosts},   {"total_s", simulation.total_s},
                                {"page_bytes", page_bytes}, {"events", simulation.events}};
    for (const auto& [word, count] : ends) json["ends"][std::string(word)] = count;
    json["migration_s"] = {{"p50", at_quantile(times, 0.5)}, {"p99", at_quantile(times, 0.99)}};
    json["downtime_ms"] = {{"p50", at_quantile(downtimes, 0.5)},
                           {"p99", at_quantile(downtimes, 0.99)}};
    return json;
}

void print_text(const nlohmann::ordered_json& summary) {
    std::cout << fmt::format("{} VMs over {} hosts, seed {}: all over after {:.1f} s\n",
                             summary["vms"].get<uint32_t>(), summary["hosts"].get<uint32_t>(),
                             summary["seed"].get<uint64_t>(), summary["total_s"].get<double>());
    for (const auto& [word, count] : summary["ends"].items())
        std::cout << fmt::format("  {:<14} {}\n", word, count.get<uint32_t>());
    std::cout << fmt::format(
        "  migration p50 {:.1f} s, p99 {:.1f} s; downtime p50 {:.1f} ms, p99 {:.1f} ms; {}\n",
        summary["migration_s"]["p50"].get<double>(), summary["migration_s"]["p99"].get<double>(),
        summary["downtime_ms"]["p50"].get<double>(), summary["downtime_ms"]["p99"].get<double>(),
        format_bytes(static_cast<Bytes>(summary["page_bytes"].get<double>())));
}

absl::Status run_simulation(const SimOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(const Bytes link, parse_rate(options.link));
    GODWIT_ASSIGN_OR_RETURN(const std::vector<SimulatedVm> vms, make_vms(options));
    const std::vector<SimulatedHost> hosts(
        options.hosts, {.link_rate = static_cast<double>(link), .at_a_time = options.at_a_time});
    GODWIT_ASSIGN_OR_RETURN(const Simulation simulation, simulate(vms, hosts));
    const nlohmann::ordered_json summary = summary_of(options, simulation);
    if (options.json)
        std::cout << summary.dump(2) << std::endl;
    else
        print_text(summary);
    return absl::OkStatus();
}

int sim_main(int argc, char** argv) {
    CLI::App app("Simulates migrations: any number of VMs and hosts, the engine's own policy.");
    SimOptions options;
    add_options(app, options);
    CLI11_PARSE(app, argc, argv);
    const absl::Status status = run_simulation(options);
    if (status.ok()) return 0;
    if (options.json)
        std::cout << nlohmann::json{{"error", std::string(status.message())}}.dump() << std::endl;
    std::cerr << "godwit-sim: " << status.message() << std::endl;
    return 1;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::sim_main(argc, argv); }
