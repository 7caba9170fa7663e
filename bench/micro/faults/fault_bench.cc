// What a page fault of a guest costs whose pages come later, and the two ways of filling them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/micro/faults/fault_costs.h"
#include "bench/micro/faults/fault_latency.h"

namespace godwit {
namespace {

int run(int argc, char** argv) {
    CLI::App app("Page faults over loopback TCP, and MISSING + COPY against MINOR + CONTINUE");
    LatencyOptions latency;
    std::string ram = "1GiB";
    std::string rate = "64MiB/s";
    std::string part = "all";
    std::string cpu_latency = "auto";
    bool small = false;
    bool ordinary = false;
    app.add_option("--part", part, "latency, costs or all")
        ->check(CLI::IsMember({"latency", "costs", "all"}));
    app.add_option("--ram", ram, "of the guest");
    app.add_option("--faults", latency.faults, "pages that the guest touches");
    app.add_option("--push-rate", rate, "of the background push");
    app.add_option("--push-pages", latency.push_pages, "in one frame of it");
    app.add_option("--think-us", latency.think_us, "pause of the guest between two touches");
    app.add_option("--views", latency.views, "how often the guest maps its RAM");
    app.add_flag("--small", small, "4 KiB tmpfs instead of huge");
    app.add_flag("--ordinary", ordinary, "peer and receiver not under SCHED_FIFO");
    app.add_option("--cpu-latency", cpu_latency,
                   "within which idle CPUs wake, as godwitd has it: auto, off or microseconds");
    app.add_option("--case", latency.only, "of the latency: this one only")
        ->check(CLI::IsMember(latency_cases()));
    app.add_flag("--json", latency.json,
                 "print the latency as JSON; needs --part latency or --case");
    app.footer("Example:\n  fault_bench --case random --faults 5000 --json");
    CLI11_PARSE(app, argc, argv);
    if (!latency.only.empty() && part == "all") part = "latency";
    if (latency.json && part != "latency") {
        fmt::print(stderr, "--json is for the latency: add --part latency\n");
        return 2;
    }
    const auto bytes = parse_bytes(ram);
    const auto push_rate = parse_rate(rate);
    if (!bytes.ok() || !push_rate.ok()) {
        fmt::print(stderr, "--ram or --push-rate is no size\n");
        return 2;
    }
    const auto limit = parse_cpu_latency(cpu_latency);
    if (!limit.ok()) {
        fmt::print(stderr, "--cpu-latency {}\n", std::string(limit.status().message()));
        return 2;
    }
    latency.cpu_latency = *limit;
    latency.ram = *bytes;
    latency.push_rate = *push_rate;
    latency.huge = !small;
    latency.realtime = !ordinary;
    absl::Status status;
    if (part != "costs") status = measure_latency(latency);
    if (status.ok() && part != "latency") status = measure_costs(*bytes);
    if (status.ok()) return 0;
    fmt::print(stderr, "{}\n", status.ToString());
    return 1;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
