// What goes into Godwit as text, and what comes out of it.
#include <fmt/format.h>

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

}  // namespace

std::string lab_vm_file(const std::string& name, const GuestConfig& guest) {
    std::string text = fmt::format(
        "name: {}\nmemory: {}\nmemory_backing: thp\nvcpus: 1\naccel: {}\nkernel: {}\n"
        "append: \"{}\"\n",
        name, guest.memory, guest.kvm ? "kvm" : "tcg", guest.kernel, guest_append(guest));
    if (!guest.firmware.empty()) text += fmt::format("firmware: {}\n", guest.firmware);
    if (!guest.cpu.empty()) text += fmt::format("cpu: \"{}\"\n", guest.cpu);
    return text;
}

Metrics godwit_metrics(const nlohmann::json& report) {
    Metrics metrics;
    flatten(report, "", metrics);
    metrics.erase("started_unix_ms");
    for (const auto& [path, name] : kMain)
        if (const auto found = metrics.find(path); found != metrics.end())
            metrics[name] = found->second;
    return metrics;
}

}  // namespace godwit
