#include "engine/guest/vm_file/validate_spec.h"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace godwit {
namespace {

using Fault = std::optional<SpecFault>;

bool is_alnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }
bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

// Whether `text` has nothing but letters, digits and `more`.
bool consists_of(std::string_view text, std::string_view more) {
    return std::all_of(text.begin(), text.end(), [&](char c) {
        return is_alnum(c) || more.find(c) != std::string_view::npos;
    });
}

bool has_control_character(std::string_view text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

Fault check_path(std::string field, const std::string& path) {
    if (path.empty()) return SpecFault{std::move(field), "is empty"};
    if (path.size() > kMaxPathBytes)
        return SpecFault{std::move(field), "is longer than 4095 bytes"};
    if (path.front() != '/')
        return SpecFault{std::move(field), fmt::format("\"{}\" is no absolute path", path)};
    if (has_control_character(path))
        return SpecFault{std::move(field), "has a control character in it"};
    return std::nullopt;
}

Fault check_mac(std::string field, std::string_view mac) {
    bool good = mac.size() == 17;
    for (size_t i = 0; good && i < mac.size(); ++i)
        good = i % 3 == 2 ? mac[i] == ':' : is_hex(mac[i]);
    if (!good)
        return SpecFault{
            std::move(field),
            fmt::format("\"{}\" is no MAC address; write it as 52:54:00:00:00:01", mac)};
    // The lowest bit of the first octet marks a group address.
    const int low = std::stoi(std::string(mac.substr(1, 1)), nullptr, 16);
    if (low % 2 != 0)
        return SpecFault{std::move(field), fmt::format("\"{}\" is a multicast address", mac)};
    return std::nullopt;
}

Fault check_uuid(std::string_view uuid) {
    bool good = uuid.size() == 36;
    for (size_t i = 0; good && i < uuid.size(); ++i)
        good = i == 8 || i == 13 || i == 18 || i == 23 ? uuid[i] == '-' : is_hex(uuid[i]);
    if (good) return std::nullopt;
    return SpecFault{"uuid", fmt::format("\"{}\" is no UUID", uuid)};
}

Fault check_names(const v1::VmSpec& spec) {
    if (spec.name().empty()) return SpecFault{"name", "is missing"};
    if (!is_vm_name(spec.name()))
        return SpecFault{"name", fmt::format("\"{}\" is no VM name: 1 to 64 of A-Z a-z 0-9 . _ - , "
                                             "starting with a letter or digit",
                                             spec.name())};
    if (!spec.uuid().empty())
        if (Fault fault = check_uuid(spec.uuid())) return fault;
    // Both go into an option list, where a comma would begin another option.
    if (!consists_of(spec.machine(), "._-") || spec.machine().size() > 64)
        return SpecFault{"machine", fmt::format("\"{}\" is no machine type", spec.machine())};
    if (!consists_of(spec.cpu(), "._-,=+ ") || spec.cpu().size() > 1024)
        return SpecFault{"cpu", fmt::format("\"{}\" is no CPU model", spec.cpu())};
    return std::nullopt;
}

Fault check_numbers(const v1::VmSpec& spec) {
    if (spec.memory_bytes() == 0) return SpecFault{"memory", "is missing"};
    if (spec.memory_bytes() % kChunkBytes != 0)
        return SpecFault{"memory",
                         fmt::format("{} bytes are no multiple of 2 MiB", spec.memory_bytes())};
    if (spec.memory_bytes() > kMaxMemoryBytes)
        return SpecFault{"memory",
                         fmt::format("{} is more than 64 TiB", format_bytes(spec.memory_bytes()))};
    if (spec.vcpus() > kMaxVcpus)
        return SpecFault{"vcpus", fmt::format("{} is not within 1 to {}", spec.vcpus(), kMaxVcpus)};
    if (!v1::Accel_IsValid(spec.accel()))
        return SpecFault{"accel", fmt::format("unknown value {}", static_cast<int>(spec.accel()))};
    if (!v1::MemoryBacking_IsValid(spec.memory_backing()))
        return SpecFault{"memory_backing",
                         fmt::format("unknown value {}", static_cast<int>(spec.memory_backing()))};
    return std::nullopt;
}

Fault check_boot(const v1::VmSpec& spec) {
    struct File {
        const char* field;
        const std::string& path;
    };
    for (const File& file : std::initializer_list<File>{
             {"kernel", spec.kernel()}, {"initrd", spec.initrd()}, {"firmware", spec.firmware()}})
        if (!file.path.empty())
            if (Fault fault = check_path(file.field, file.path)) return fault;
    if (spec.kernel().empty() && !spec.initrd().empty())
        return SpecFault{"initrd", "needs a kernel"};
    if (spec.kernel().empty() && !spec.append().empty())
        return SpecFault{"append", "needs a kernel"};
    // QEMU's multiboot loader splits this one at commas into several modules.
    if (spec.initrd().find(',') != std::string::npos)
        return SpecFault{"initrd", "has a comma in its path, which QEMU takes for a list"};
    if (spec.append().size() > kMaxAppendBytes)
        return SpecFault{"append", "is longer than 4096 bytes"};
    if (has_control_character(spec.append()))
        return SpecFault{"append", "has a control character in it"};
    return std::nullopt;
}

Fault check_disks(const v1::VmSpec& spec) {
    if (spec.disks_size() > kMaxDisks)
        return SpecFault{"disks", fmt::format("{} are more than {}", spec.disks_size(), kMaxDisks)};
    for (int i = 0; i < spec.disks_size(); ++i) {
        const v1::Disk& disk = spec.disks(i);
        if (Fault fault = check_path(fmt::format("disks[{}].path", i), disk.path())) return fault;
        const std::string& format = disk.format();
        if (format.size() > 32 || std::any_of(format.begin(), format.end(), [](char c) {
                return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'));
            }))
            return SpecFault{fmt::format("disks[{}].format", i),
                             fmt::format("\"{}\" is no image format; write raw or qcow2", format)};
        if (!v1::DiskCache_IsValid(disk.cache()))
            return SpecFault{fmt::format("disks[{}].cache", i),
                             fmt::format("unknown value {}", static_cast<int>(disk.cache()))};
    }
    return std::nullopt;
}

Fault check_nics(const v1::VmSpec& spec) {
    if (spec.nics_size() > kMaxNics)
        return SpecFault{"nics", fmt::format("{} are more than {}", spec.nics_size(), kMaxNics)};
    for (int i = 0; i < spec.nics_size(); ++i) {
        const v1::Nic& nic = spec.nics(i);
        if (nic.bridge().size() >= IFNAMSIZ || !consists_of(nic.bridge(), "._-") ||
            nic.bridge() == "." || nic.bridge() == "..")
            return SpecFault{fmt::format("nics[{}].bridge", i),
                             fmt::format("\"{}\" is no name of a bridge", nic.bridge())};
        if (!nic.mac().empty())
            if (Fault fault = check_mac(fmt::format("nics[{}].mac", i), nic.mac())) return fault;
    }
    return std::nullopt;
}

Fault check_numa(const v1::VmSpec& spec) {
    if (spec.numa_size() == 0) return std::nullopt;
    if (spec.numa_size() > kMaxNumaNodes)
        return SpecFault{"numa",
                         fmt::format("{} nodes are more than {}", spec.numa_size(), kMaxNumaNodes)};
    Bytes left = spec.memory_bytes();
    std::vector<bool> placed(std::max<uint32_t>(spec.vcpus(), 1));
    size_t placed_count = 0;
    for (int i = 0; i < spec.numa_size(); ++i) {
        const Bytes bytes = spec.numa(i).memory_bytes();
        if (bytes == 0 || bytes % kChunkBytes != 0)
            return SpecFault{fmt::format("numa[{}].memory", i),
                             fmt::format("{} bytes are no multiple of 2 MiB", bytes)};
        if (bytes > left)
            return SpecFault{"numa", fmt::format("the nodes have more memory than the VM's {}",
                                                 format_bytes(spec.memory_bytes()))};
        left -= bytes;
        for (const uint32_t vcpu : spec.numa(i).vcpus()) {
            const std::string field = fmt::format("numa[{}].vcpus", i);
            if (vcpu >= placed.size())
                return SpecFault{
                    field, fmt::format("there is no vCPU {}: the VM has {}", vcpu, placed.size())};
            if (placed[vcpu]) return SpecFault{field, fmt::format("vCPU {} is named twice", vcpu)};
            placed[vcpu] = true;
            ++placed_count;
        }
    }
    if (left != 0)
        return SpecFault{"numa",
                         fmt::format("the nodes have {} less memory than the VM's {}",
                                     format_bytes(left), format_bytes(spec.memory_bytes()))};
    if (placed_count != placed.size())
        return SpecFault{"numa", fmt::format("{} of {} vCPUs are on no node",
                                             placed.size() - placed_count, placed.size())};
    return std::nullopt;
}

Fault check_hotplug(const v1::VmSpec& spec) {
    if (!spec.has_hotplug()) return std::nullopt;
    const v1::MemoryHotplug& hotplug = spec.hotplug();
    if (hotplug.slots() == 0 || hotplug.slots() > kMaxHotplugSlots)
        return SpecFault{"hotplug.slots", fmt::format("{} is not within 1 to {}", hotplug.slots(),
                                                      kMaxHotplugSlots)};
    if (hotplug.max_memory_bytes() % kChunkBytes != 0)
        return SpecFault{"hotplug.max_memory", fmt::format("{} bytes are no multiple of 2 MiB",
                                                           hotplug.max_memory_bytes())};
    if (hotplug.max_memory_bytes() <= spec.memory_bytes() ||
        hotplug.max_memory_bytes() > kMaxMemoryBytes)
        return SpecFault{"hotplug.max_memory",
                         fmt::format("{} is not between the VM's memory and 64 TiB",
                                     format_bytes(hotplug.max_memory_bytes()))};
    return std::nullopt;
}

}  // namespace

bool is_vm_name(std::string_view name) {
    return !name.empty() && name.size() <= 64 && is_alnum(name.front()) && consists_of(name, "._-");
}

std::optional<SpecFault> find_spec_fault(const v1::VmSpec& spec) {
    // libvirt knows what it runs; names are used in paths of ours.
    if (!spec.domain_xml().empty())
        return is_vm_name(spec.name())
                   ? std::nullopt
                   : Fault(
                         SpecFault{"name",
                                   "Godwit needs 1 to 64 of A-Z a-z 0-9 . _ - in a domain's name, "
                                   "the first a letter or digit"});
    for (const auto check : {check_names, check_numbers, check_boot, check_disks, check_nics,
                             check_numa, check_hotplug})
        if (Fault fault = check(spec)) return fault;
    return std::nullopt;
}

absl::Status validate_spec(const v1::VmSpec& spec) {
    const Fault fault = find_spec_fault(spec);
    if (!fault) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format("{}: {}", fault->field, fault->message));
}

}  // namespace godwit
