#include "bench/lab/libvirt_words.h"

#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

namespace godwit {
namespace {

constexpr Bytes kBandwidthUnit = Bytes{1} << 20;

std::string in_xml(const std::string& text) {
    return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// QEMU's "host,-arch-capabilities,phys-bits=42" in libvirt's words; "max" is all that TCG can do.
std::string cpu_xml(const std::string& cpu) {
    if (cpu.empty()) return {};
    const std::vector<std::string> words = absl::StrSplit(cpu, ',');
    std::string inner;
    for (size_t i = 1; i < words.size(); ++i) {
        if (words[i].starts_with("-"))
            inner += fmt::format("<feature policy='disable' name='{}'/>", words[i].substr(1));
        if (words[i].starts_with("phys-bits="))
            inner += fmt::format("<maxphysaddr mode='emulate' bits='{}'/>",
                                 words[i].substr(words[i].find('=') + 1));
    }
    const char* mode = words.front() == "host" ? "host-passthrough" : "maximum";
    return fmt::format("<cpu mode='{}'>{}</cpu>", mode, inner);
}

// "event NAME at SECONDS.MICROSECONDS for domain 'DOMAIN': JSON"
std::optional<SeenEvent> parse_event(const std::string& line, const std::string& domain) {
    constexpr size_t kMaxName = 64;
    std::array<char, kMaxName + 1> name{};
    int64_t seconds = 0;
    int64_t micros = 0;
    int end = 0;
    // NOLINTNEXTLINE(cert-err34-c): a number that overflows is a stamp that matches nothing.
    if (std::sscanf(line.c_str(), "event %64s at %" SCNd64 ".%" SCNd64 " for domain %n",
                    name.data(), &seconds, &micros, &end) != 3 ||
        end == 0)
        return std::nullopt;
    const std::string whose = fmt::format("'{}': ", domain);
    const auto rest = static_cast<size_t>(end);
    if (line.compare(rest, whose.size(), whose) != 0) return std::nullopt;
    SeenEvent event{.name = name.data(),
                    .stamp = std::chrono::seconds(seconds) + std::chrono::microseconds(micros)};
    const auto data = nlohmann::json::parse(line.substr(rest + whose.size()), nullptr, false);
    if (!data.is_object()) return event;
    if (event.name == "MIGRATION" && data.contains("status") && data["status"].is_string())
        event.status = data["status"];
    if (event.name == "MIGRATION_PASS" && data.contains("pass") && data["pass"].is_number())
        event.pass = data["pass"];
    return event;
}

}  // namespace

std::string lab_domain_xml(const std::string& name, const std::string& qemu,
                           const GuestConfig& guest) {
    const std::string loader =
        guest.firmware.empty()
            ? std::string()
            : fmt::format("<loader type='rom' readonly='yes'>{}</loader>", in_xml(guest.firmware));
    std::string initrd;
    if (!guest.initrd.empty()) initrd = fmt::format("<initrd>{}</initrd>", in_xml(guest.initrd));
    std::string devices;
    if (!guest.disk.empty())
        devices += fmt::format(
            "<disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{}'/>"
            "<target dev='vda' bus='virtio'/></disk>",
            in_xml(guest.disk));
    if (!guest.bridge.empty())
        devices += fmt::format(
            "<interface type='bridge'><mac address='{}'/><source bridge='{}'/>"
            "<model type='virtio'/><driver name='qemu'/><rom enabled='no'/></interface>",
            guest.mac, guest.bridge);
    return fmt::format(
        "<domain type='{}'><name>{}</name><memory unit='KiB'>{}</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type>{}<kernel>{}</kernel>{}"
        "<cmdline>{}</cmdline></os><features><acpi/></features>{}"
        "<devices><emulator>{}</emulator><serial type='null'/>"
        "<controller type='usb' model='none'/><memballoon model='none'/>{}</devices></domain>\n",
        guest.kvm ? "kvm" : "qemu", name, guest.memory >> 10, loader, in_xml(guest.kernel), initrd,
        in_xml(guest.append.empty() ? guest_append(guest) : guest.append), cpu_xml(guest.cpu),
        in_xml(qemu), devices);
}

std::vector<std::string> libvirt_migrate_flags(const EngineName& name, Bytes bandwidth) {
    std::vector<std::string> flags{"--live"};
    if (is_multifd(name.mode))
        flags.insert(flags.end(),
                     {"--parallel", "--parallel-connections", std::to_string(name.channels)});
    if (name.mode == QemuMode::kAutoConverge) flags.emplace_back("--auto-converge");
    if (is_postcopy(name.mode)) flags.emplace_back("--postcopy");
    if (bandwidth == 0) return flags;
    // libvirt counts in MiB/s.
    const std::string rate = std::to_string(std::max<Bytes>(1, bandwidth / kBandwidthUnit));
    flags.insert(flags.end(), {"--bandwidth", rate});
    if (is_postcopy(name.mode)) flags.insert(flags.end(), {"--postcopy-bandwidth", rate});
    return flags;
}

std::vector<SeenEvent> parse_monitor_events(const std::string& text, const std::string& domain,
                                            Side side) {
    std::vector<SeenEvent> events;
    size_t begin = 0;
    for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
        auto event = parse_event(text.substr(begin, end - begin), domain);
        if (!event) continue;
        event->side = side;
        events.push_back(*std::move(event));
    }
    return events;
}

std::optional<uint64_t> find_private_ram(const std::string& maps, Bytes size) {
    std::istringstream lines(maps);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream in(line);
        uint64_t begin = 0;
        uint64_t end = 0;
        char dash = 0;
        std::string rights;
        std::string offset;
        std::string device;
        uint64_t inode = 0;
        std::string path;
        in >> std::hex >> begin >> dash >> end >> rights >> offset >> device >> std::dec >> inode;
        if (!in || rights != "rw-p" || inode != 0 || end - begin != size) continue;
        if (!(in >> path)) return begin;
    }
    return std::nullopt;
}

Metrics libvirt_metrics(const std::string& raw_stats) {
    constexpr std::array<std::pair<const char*, const char*>, 5> kNames{
        {{"downtime:", "reported_downtime_ms"},
         {"time_elapsed:", "reported_total_ms"},
         {"data_processed:", "wire_bytes"},
         {"memory_iteration:", "rounds"},
         {"memory_postcopy_requests:", "faults"}}};
    Metrics metrics;
    std::istringstream lines(raw_stats);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream in(line);
        std::string key;
        double value = 0;
        if (!(in >> key >> value)) continue;
        for (const auto& [theirs, ours] : kNames)
            if (key == theirs) metrics[ours] = value;
    }
    return metrics;
}

}  // namespace godwit
