// What goes into Godwit as text, and what comes out of it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "bench/lab/godwit_engine.h"

namespace godwit {
namespace {

void flatten(const nlohmann::json& value, const std::string& path, Metrics& metrics) {
    if (value.is_number()) metrics[path] = value.get<double>();
    if (value.is_array()) metrics[path] = static_cast<double>(value.size());
    if (!value.is_object()) return;
    for (const auto& [key, member] : value.items())
        flatten(member, path.empty() ? key : fmt::format("{}.{}", path, key), metrics);
}

// Path in the report, and the lab's name for it.
constexpr std::array<std::pair<const char*, const char*>, 6> kMain{
    {{"postcopy.faults", "faults"},
     {"postcopy.latency_us.p50", "fault_p50_us"},
     {"postcopy.latency_us.p99", "fault_p99_us"},
     {"postcopy.latency_us.p999", "fault_p999_us"},
     {"postcopy.latency_us.max", "fault_max_us"},
     {"postcopy.drain_ms", "drain_ms"}}};

// Of fault latency in the report, and the share of faults that is not slower.
constexpr std::array<std::pair<const char*, double>, 5> kQuantiles{
    {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}}};

}  // namespace

std::string lab_vm_file(const std::string& name, const GuestConfig& guest) {
    std::string text = fmt::format(
        "name: {}\nmemory: {}\nmemory_backing: {}\nvcpus: 1\naccel: {}\nkernel: {}\n"
        "append: \"{}\"\n",
        name, guest.memory, guest.backing, guest.kvm ? "kvm" : "tcg", guest.kernel,
        guest.append.empty() ? guest_append(guest) : guest.append);
    if (!guest.initrd.empty()) text += fmt::format("initrd: {}\n", guest.initrd);
    if (!guest.disk.empty()) text += fmt::format("disks: [{{path: {}}}]\n", guest.disk);
    if (!guest.bridge.empty())
        text += fmt::format("nics: [{{bridge: {}, mac: \"{}\"}}]\n", guest.bridge, guest.mac);
    if (!guest.firmware.empty()) text += fmt::format("firmware: {}\n", guest.firmware);
    if (!guest.cpu.empty()) text += fmt::format("cpu: \"{}\"\n", guest.cpu);
    return text;
}

double godwit_lead_ms(const nlohmann::json& report, int64_t requested_unix_ms) {
    if (!report.is_object()) return 0;
    const int64_t begun_unix_ms = report.value("started_unix_ms", requested_unix_ms);
    return static_cast<double>(std::max<int64_t>(0, begun_unix_ms - requested_unix_ms));
}

Metrics godwit_metrics(const nlohmann::json& report, double lead_ms) {
    Metrics metrics;
    flatten(report, "", metrics);
    metrics.erase("started_unix_ms");
    if (const auto total = metrics.find("total_ms"); total != metrics.end())
        metrics["reported_total_ms"] = total->second;
    for (const char* name : {"total_ms", "prepare_ms"})
        if (const auto found = metrics.find(name); found != metrics.end()) found->second += lead_ms;
    // No forecast is none of 0 ms.
    if (const auto foretold = metrics.find("prediction.total_ms.mid"); foretold != metrics.end()) {
        if (foretold->second > 0)
            foretold->second += lead_ms;
        else
            std::erase_if(metrics,
                          [](const auto& one) { return one.first.starts_with("prediction."); });
    }
    // A migration without a post-copy says 0 faults, which is no measurement.
    const auto postcopy = report.find("postcopy");
    if (postcopy != report.end() && !postcopy->value("used", true)) return metrics;
    for (const auto& [path, name] : kMain)
        if (const auto found = metrics.find(path); found != metrics.end())
            metrics[name] = found->second;
    return metrics;
}

nlohmann::json godwit_series(const nlohmann::json& report, double lead_ms) {
    nlohmann::json series = nlohmann::json::object();
    if (!report.is_object()) return series;
    double begin_ms = lead_ms + report.value("prepare_ms", 0.0);
    for (const nlohmann::json& round : report.value("rounds", nlohmann::json::array())) {
        series["rounds"].push_back({{"begin_ms", begin_ms},
                                    {"ms", round.value("duration_ms", 0.0)},
                                    {"dirty_pages", round.value("dirty_pages", 0.0)},
                                    {"sent_pages", round.value("sent_pages", 0.0)},
                                    {"sent_bytes", round.value("sent_bytes", 0.0)},
                                    {"bytes_per_s", round.value("rate_bytes_per_s", 0.0)},
                                    {"r", round.value("r", 0.0)},
                                    {"decision", round.value("decision", std::string())}});
        begin_ms += round.value("duration_ms", 0.0);
    }
    const nlohmann::json postcopy = report.value("postcopy", nlohmann::json::object());
    const auto latency = postcopy.find("latency_us");
    if (latency != postcopy.end() && postcopy.value("faults", 0.0) > 0)
        for (const auto& [name, at] : kQuantiles)
            series["latency_us"].push_back({latency->value(name, 0.0), at});
    return series;
}

}  // namespace godwit
