#include "engine/guest/qemu/resolve_spec.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <span>
#include <sstream>

#include "engine/base/hash.h"

namespace godwit {
namespace {

// A random (version 4) UUID.
std::string make_uuid() {
    std::array<unsigned char, 16> bytes{};
    (void)!::getrandom(bytes.data(), bytes.size(), 0);
    bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
    bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
    std::string text;
    for (size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += fmt::format("{:02x}", bytes[i]);
    }
    return text;
}

// The same on every host, so that a VM that is started anew keeps its address. 52:54:00 is QEMU's.
std::string make_mac(const std::string& vm_name, int index) {
    const std::string key = fmt::format("{}/{}", vm_name, index);
    const uint64_t hash = checksum_bytes(std::as_bytes(std::span(key)));
    return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", hash & 0xff, hash >> 8 & 0xff,
                       hash >> 16 & 0xff);
}

}  // namespace

MachineTypes parse_machine_help(const std::string& text) {
    static constexpr std::string_view kAlias = "(alias of ";
    MachineTypes machines;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const size_t end = line.find(' ');
        // The first line is a heading.
        if (end == 0 || end == std::string::npos || line.find("Supported machines") == 0) continue;
        const std::string name = line.substr(0, end);
        machines[name] = name;
        const size_t alias = line.find(kAlias);
        if (alias == std::string::npos) continue;
        const size_t begin = alias + kAlias.size();
        machines[name] = line.substr(begin, line.find(')', begin) - begin);
    }
    return machines;
}

absl::StatusOr<v1::VmSpec> resolve_spec(const v1::VmSpec& spec, bool has_kvm,
                                        const MachineTypes& machines, const std::string& kvm_cpu) {
    v1::VmSpec resolved = spec;
    if (spec.accel() == v1::ACCEL_KVM && !has_kvm)
        return absl::FailedPreconditionError(
            "accel: /dev/kvm does not work on this host; use accel: tcg or auto");
    if (spec.accel() == v1::ACCEL_AUTO) resolved.set_accel(has_kvm ? v1::ACCEL_KVM : v1::ACCEL_TCG);
    const auto machine = machines.find(spec.machine().empty() ? "q35" : spec.machine());
    if (machine == machines.end())
        return absl::InvalidArgumentError(
            fmt::format("machine: this QEMU has no machine type \"{}\"; see -machine help",
                        spec.machine().empty() ? "q35" : spec.machine()));
    resolved.set_machine(machine->second);
    if (spec.cpu().empty()) resolved.set_cpu(resolved.accel() == v1::ACCEL_KVM ? kvm_cpu : "max");
    if (spec.uuid().empty()) resolved.set_uuid(make_uuid());
    if (spec.vcpus() == 0) resolved.set_vcpus(1);
    for (int i = 0; i < resolved.nics_size(); ++i)
        if (resolved.nics(i).mac().empty())
            resolved.mutable_nics(i)->set_mac(make_mac(spec.name(), i));
    for (v1::Disk& disk : *resolved.mutable_disks())
        if (disk.format().empty()) disk.set_format("raw");
    return resolved;
}

}  // namespace godwit
