#include "engine/guest/libvirt/domain_xml.h"

#include <fmt/format.h>

#include <array>
#include <pugixml.hpp>
#include <string_view>

#include "dirty-tracking/resident/protocol.h"
#include "engine/guest/libvirt/xml_text.h"
#include "engine/guest/vm_file/validate_spec.h"

namespace godwit {
namespace {

constexpr std::array<const char*, 2> kIncoming{"-incoming", "defer"};

bool is_argument(const pugi::xml_node& node, const char* value) {
    return std::string_view(node.name()) == "qemu:arg" &&
           std::string_view(node.attribute("value").value()) == value;
}

void remove_incoming(pugi::xml_node domain) {
    pugi::xml_node line = domain.child("qemu:commandline");
    for (pugi::xml_node first = line.first_child(); first;) {
        pugi::xml_node second = first.next_sibling();
        if (!is_argument(first, kIncoming[0]) || !is_argument(second, kIncoming[1])) {
            first = second;
            continue;
        }
        const pugi::xml_node next = second.next_sibling();
        line.remove_child(first);
        line.remove_child(second);
        first = next;
    }
    if (line && !line.first_child()) domain.remove_child(line);
}

std::string alias_of(const pugi::xml_node& device) {
    const std::string alias = device.child("alias").attribute("name").value();
    return alias.empty() ? device.name() : alias;
}

bool is(const pugi::xml_attribute& attribute, std::string_view value) {
    return attribute.value() == value;
}

// Where a disk's data is; empty for what is no local file or device.
std::string disk_path(const pugi::xml_node& disk) {
    const pugi::xml_node source = disk.child("source");
    const char* file = source.attribute("file").value();
    return *file != '\0' ? file : source.attribute("dev").value();
}

void add_disks(const pugi::xml_node& domain, v1::VmSpec& spec) {
    for (const pugi::xml_node& disk : domain.child("devices").children("disk")) {
        if (!disk.child("source")) continue;  // an empty drive
        v1::Disk& added = *spec.add_disks();
        added.set_path(disk_path(disk));
        added.set_format(disk.child("driver").attribute("type").value());
        added.set_readonly(disk.child("readonly") != nullptr);
    }
}

std::string socket_in(const pugi::xml_node& domain) {
    for (const pugi::xml_node& variable : domain.child("qemu:commandline").children("qemu:env"))
        if (is(variable.attribute("name"), resident::kPathVariable))
            return variable.attribute("value").value();
    return {};
}

}  // namespace

absl::StatusOr<v1::VmSpec> spec_of_domain(const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(xml));
    pugi::xml_node domain = document.child("domain");
    remove_incoming(domain);
    v1::VmSpec spec;
    spec.set_name(domain.child("name").text().get());
    spec.set_uuid(domain.child("uuid").text().get());
    if (spec.name().empty() || spec.uuid().empty())
        return absl::InvalidArgumentError("the domain's XML has no name or no UUID");
    // libvirt writes KiB, whatever it was given.
    const uint64_t memory_kib = domain.child("memory").text().as_ullong();
    if (memory_kib > kMaxMemoryBytes >> 10)
        return absl::InvalidArgumentError(
            fmt::format("the domain has {} KiB of memory: more than 64 TiB", memory_kib));
    spec.set_memory_bytes(memory_kib << 10);
    spec.set_vcpus(domain.child("vcpu").text().as_uint(1));
    spec.set_accel(is(domain.attribute("type"), "kvm") ? v1::ACCEL_KVM : v1::ACCEL_TCG);
    const pugi::xml_node os = domain.child("os");
    spec.set_machine(os.child("type").attribute("machine").value());
    spec.set_kernel(os.child("kernel").text().get());
    spec.set_initrd(os.child("initrd").text().get());
    spec.set_append(os.child("cmdline").text().get());
    spec.set_firmware(os.child("loader").text().get());
    add_disks(domain, spec);
    spec.set_no_resident(socket_in(domain).empty());
    spec.set_balloon(!discarding_devices_of(xml).empty());
    spec.set_domain_xml(domain_text(document));
    return spec;
}

absl::StatusOr<std::string> with_incoming(const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(xml));
    pugi::xml_node domain = document.child("domain");
    remove_incoming(domain);
    if (!domain.attribute("xmlns:qemu"))
        domain.append_attribute("xmlns:qemu").set_value(kQemuNamespace);
    pugi::xml_node line = domain.child("qemu:commandline");
    if (!line) line = domain.append_child("qemu:commandline");
    // In front: libvirt wants arguments before variables.
    for (auto word = kIncoming.rbegin(); word != kIncoming.rend(); ++word)
        line.prepend_child("qemu:arg").append_attribute("value").set_value(*word);
    return domain_text(document);
}

absl::StatusOr<std::string> without_incoming(const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(xml));
    remove_incoming(document.child("domain"));
    return domain_text(document);
}

std::string fixed_parts_of(const std::string& xml) {
    const absl::StatusOr<pugi::xml_document> document = parse_domain(xml);
    if (!document.ok()) return {};
    pugi::xml_document parts;
    for (const char* name : {"memory", "vcpu", "vcpus", "devices"})
        parts.append_copy(document->child("domain").child(name));
    const pugi::xml_node devices = parts.child("devices");
    for (const pugi::xml_node& channel : devices.children("channel"))
        channel.child("target").remove_attribute("state");  // whether the guest's agent listens
    for (const pugi::xml_node& disk : devices.children("disk"))
        disk.child("target").remove_attribute("tray");
    return domain_text(parts);
}

std::string resident_socket_of(const std::string& xml) {
    const absl::StatusOr<pugi::xml_document> document = parse_domain(xml);
    return document.ok() ? socket_in(document->child("domain")) : std::string();
}

std::vector<std::string> domain_problems(const std::string& xml) {
    const absl::StatusOr<pugi::xml_document> document = parse_domain(xml);
    if (!document.ok()) return {std::string(document.status().message())};
    const pugi::xml_node domain = document->child("domain");
    const pugi::xml_node devices = domain.child("devices");
    std::vector<std::string> problems;
    const auto refuse = [&problems](const pugi::xml_node& device, std::string_view why) {
        problems.push_back(fmt::format("{}: {}", alias_of(device), why));
    };
    for (const pugi::xml_node& device : devices.children("hostdev"))
        refuse(device, "a device of this host is passed through: detach it first");
    for (const pugi::xml_node& device : devices.children("interface")) {
        if (is(device.attribute("type"), "hostdev"))
            refuse(device, "a network card of this host is passed through: detach it first");
        if (is(device.attribute("type"), "vhostuser"))
            refuse(device, "vhost-user: another process writes the guest's memory unseen");
        if (is(device.attribute("type"), "vdpa"))
            refuse(device, "vDPA: hardware writes the guest's memory unseen");
    }
    for (const pugi::xml_node& device : devices.children("disk")) {
        if (is(device.attribute("type"), "vhostuser") || is(device.attribute("type"), "vhostvdpa"))
            refuse(device, "vhost-user: another process writes the guest's memory unseen");
        if (is(device.attribute("type"), "nvme"))
            refuse(device, "an NVMe drive of this host is passed through: detach it first");
        if (device.child("transient"))
            refuse(device,
                   "<transient/>: what was written to it since the start stays at this host");
    }
    for (const pugi::xml_node& device : devices.children("filesystem"))
        refuse(device, "a directory of this host is shared with the guest: unmount and detach it");
    for (const pugi::xml_node& device : devices.children("shmem"))
        refuse(device, "memory shared with other processes of this host");
    for (const pugi::xml_node& device : devices.children("vsock"))
        refuse(device, "vsock: its connections end at this host");
    for (const pugi::xml_node& device : devices.children("tpm"))
        refuse(device, "a TPM's state is with its emulator, which Godwit does not move");
    for (const pugi::xml_node& device : devices.children("memory"))
        if (is(device.attribute("model"), "nvdimm") ||
            is(device.attribute("model"), "virtio-pmem") ||
            is(device.attribute("model"), "sgx-epc"))
            refuse(device, fmt::format("memory of the kind {}", device.attribute("model").value()));
    if (domain.child("launchSecurity"))
        problems.emplace_back("launchSecurity: the guest's memory is encrypted for this host");
    return problems;
}

std::vector<std::string> discarding_devices_of(const std::string& xml) {
    const absl::StatusOr<pugi::xml_document> document = parse_domain(xml);
    std::vector<std::string> devices;
    if (!document.ok()) return devices;
    for (const pugi::xml_node& device : document->child("domain").child("devices").children()) {
        const std::string_view name = device.name();
        if ((name == "memballoon" && !is(device.attribute("model"), "none")) ||
            (name == "memory" && is(device.attribute("model"), "virtio-mem")))
            devices.push_back(alias_of(device));
    }
    return devices;
}

}  // namespace godwit
