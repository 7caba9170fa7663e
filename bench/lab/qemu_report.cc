// What QEMU is told, and what it says about itself. Names: QEMU's qapi/migration.json.
#include <bit>

#include "bench/lab/qemu_engine.h"

namespace godwit {
namespace {

// QEMU takes no "unlimited": far above any link.
constexpr int64_t kUnlimited = int64_t{1} << 40;

void copy_number(const Json& from, const char* key, double scale, const char* name, Metrics& to) {
    const auto found = from.find(key);
    if (found != from.end() && found->is_number()) to[name] = found->get<double>() * scale;
}

}  // namespace

std::vector<std::string> qemu_capabilities(QemuMode mode) {
    std::vector<std::string> names{"events"};
    if (is_multifd(mode)) names.emplace_back("multifd");
    if (mode == QemuMode::kXbzrle) names.emplace_back("xbzrle");
    if (mode == QemuMode::kAutoConverge) names.emplace_back("auto-converge");
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
    if (is_multifd(mode)) parameters["multifd-channels"] = 2;
    if (mode == QemuMode::kMultifdZlib) parameters["multifd-compression"] = "zlib";
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

nlohmann::json qemu_series(const std::vector<SeenEvent>& events, MonotonicTime requested,
                           const Json& destination) {
    nlohmann::json series = nlohmann::json::object();
    nlohmann::json rounds = nlohmann::json::array();
    const auto end_round = [&](MonotonicTime at) {
        if (rounds.empty() || rounds.back().contains("ms")) return;
        rounds.back()["ms"] = to_ms(at - requested) - rounds.back()["begin_ms"].get<double>();
    };
    for (const SeenEvent& event : events) {
        if (event.side != Side::kSource) continue;
        if (event.name == "MIGRATION_PASS" || event.name == "STOP") end_round(event.at);
        if (event.name == "MIGRATION_PASS")
            rounds.push_back({{"begin_ms", to_ms(event.at - requested)}});
    }
    if (!rounds.empty() && rounds.back().contains("ms")) series["rounds"] = rounds;
    // Faults in windows of 2^N to 2^(N+1) microseconds.
    const auto buckets = destination.find("postcopy-latency-dist");
    if (buckets == destination.end() || !buckets->is_array()) return series;
    double total = 0;
    for (const Json& count : *buckets) total += count.get<double>();
    double so_far = 0;
    double end_us = 1;
    for (const Json& count : *buckets) {
        so_far += count.get<double>();
        end_us *= 2;
        if (total > 0 && count.get<double>() > 0)
            series["latency_us"].push_back({end_us, so_far / total});
    }
    return series;
}

}  // namespace godwit
