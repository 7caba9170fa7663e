// What QEMU is told, and what it says about itself. Names: QEMU's qapi/migration.json.
#include <bit>

#include "bench/lab/qemu_engine.h"

namespace godwit {
namespace {

// QEMU takes no "unlimited": far above any link.
constexpr int64_t kUnlimited = int64_t{1} << 40;
constexpr int kMultifdChannels = 2;

void copy_number(const Json& from, const char* key, double scale, const char* name, Metrics& to) {
    const auto found = from.find(key);
    if (found != from.end() && found->is_number()) to[name] = found->get<double>() * scale;
}

}  // namespace

std::vector<std::string> qemu_capabilities(QemuMode mode) {
    std::vector<std::string> names{"events"};
    if (is_multifd(mode)) names.emplace_back("multifd");
    if (mode == QemuMode::kXbzrle) names.emplace_back("xbzrle");
    // The second measures what vCPUs wait for pages.
    if (is_postcopy(mode)) names.insert(names.end(), {"postcopy-ram", "postcopy-blocktime"});
    if (mode == QemuMode::kPreempt) names.emplace_back("postcopy-preempt");
    return names;
}

Json qemu_parameters(QemuMode mode, Bytes bandwidth, Duration downtime_limit, Bytes guest_memory) {
    const int64_t limit = bandwidth == 0 ? kUnlimited : static_cast<int64_t>(bandwidth);
    Json parameters{
        {"max-bandwidth", limit},
        {"downtime-limit",
         std::chrono::duration_cast<std::chrono::milliseconds>(downtime_limit).count()}};
    // 0 means unlimited here.
    if (is_postcopy(mode)) parameters["max-postcopy-bandwidth"] = bandwidth;
    if (is_multifd(mode)) parameters["multifd-channels"] = kMultifdChannels;
    if (mode == QemuMode::kMultifdZstd) parameters["multifd-compression"] = "zstd";
    // Room for every page, so that none is ever pushed out of it: its best.
    if (mode == QemuMode::kXbzrle) parameters["xbzrle-cache-size"] = std::bit_ceil(guest_memory);
    return parameters;
}

Metrics qemu_metrics(QemuMode mode, const Json& source, const Json& destination) {
    Metrics metrics;
    copy_number(source, "downtime", 1, "reported_downtime_ms", metrics);
    copy_number(source, "total-time", 1, "reported_total_ms", metrics);
    if (const auto ram = source.find("ram"); ram != source.end() && ram->is_object()) {
        copy_number(*ram, "transferred", 1, "wire_bytes", metrics);
        copy_number(*ram, "dirty-sync-count", 1, "rounds", metrics);
        if (is_postcopy(mode)) copy_number(*ram, "postcopy-requests", 1, "faults", metrics);
    }
    // Time in which some vCPU waited for a page; in whole milliseconds.
    copy_number(destination, "postcopy-blocktime", 1, "fault_blocked_ms", metrics);
    // Since QEMU 10.1, in nanoseconds.
    copy_number(destination, "postcopy-latency", 1e-3, "fault_mean_us", metrics);
    if (!metrics.contains("fault_mean_us") && metrics.contains("fault_blocked_ms") &&
        metrics.contains("faults") && metrics["faults"] > 0)
        metrics["fault_mean_us"] = 1e3 * metrics["fault_blocked_ms"] / metrics["faults"];
    return metrics;
}

}  // namespace godwit
