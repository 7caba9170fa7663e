#include "engine/guest/vm_file/vm_file.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "engine/guest/vm_file/validate_spec.h"
#include "engine/guest/vm_file/yaml_fields.h"

namespace godwit {
namespace {

// A VM file is written by hand; more than this is something else.
constexpr size_t kMaxFileBytes = size_t{1} << 20;

template <typename Value, size_t kCount>
std::optional<Value> choice(const YamlFields& fields, std::string_view key,
                            const std::array<std::pair<std::string_view, Value>, kCount>& choices) {
    const std::optional<std::string> text = fields.text(key);
    if (!text) return std::nullopt;
    std::string names;
    for (const auto& [name, value] : choices) {
        if (*text == name) return value;
        names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
    }
    fields.fault(key, fmt::format("\"{}\" is none of {}", *text, names));
    return std::nullopt;
}

std::string absolute(const std::string& path, const std::filesystem::path& directory) {
    if (path.empty()) return path;
    return (directory / path).lexically_normal().string();
}

void read_disks(YamlFile& file, const YamlFields& top, const std::filesystem::path& directory,
                v1::VmSpec& spec) {
    static constexpr std::array<std::pair<std::string_view, v1::DiskCache>, 2> kCaches{
        {{"none", v1::DISK_CACHE_NONE}, {"writeback", v1::DISK_CACHE_WRITEBACK}}};
    for (const YAML::Node& item : top.list("disks")) {
        const YamlFields fields(file, item, fmt::format("disks[{}]", spec.disks_size()),
                                {"path", "format", "cache", "readonly"});
        v1::Disk& disk = *spec.add_disks();
        disk.set_path(absolute(fields.text("path").value_or(""), directory));
        const bool qcow2 =
            disk.path().size() > 6 && disk.path().compare(disk.path().size() - 6, 6, ".qcow2") == 0;
        disk.set_format(fields.text("format").value_or(qcow2 ? "qcow2" : "raw"));
        disk.set_cache(choice(fields, "cache", kCaches).value_or(v1::DISK_CACHE_NONE));
        disk.set_readonly(fields.boolean("readonly").value_or(false));
    }
}

void read_nics(YamlFile& file, const YamlFields& top, v1::VmSpec& spec) {
    for (const YAML::Node& item : top.list("nics")) {
        const std::string name = fmt::format("nics[{}]", spec.nics_size());
        v1::Nic& nic = *spec.add_nics();
        if (item.IsScalar()) {
            if (item.Scalar() != "user")
                file.fault(
                    line_of(item), name,
                    fmt::format("\"{}\" is neither \"user\" nor {{bridge: …}}", item.Scalar()));
            continue;
        }
        const YamlFields fields(file, item, name, {"bridge", "mac", "user"});
        nic.set_bridge(fields.text("bridge").value_or(""));
        nic.set_mac(fields.text("mac").value_or(""));
        if (fields.boolean("user").value_or(false) == nic.bridge().empty()) continue;
        file.fault(line_of(item), name, "needs one of \"bridge: NAME\" and \"user: true\"");
    }
}

void read_numa(YamlFile& file, const YamlFields& top, v1::VmSpec& spec) {
    for (const YAML::Node& item : top.list("numa")) {
        const YamlFields fields(file, item, fmt::format("numa[{}]", spec.numa_size()),
                                {"memory", "vcpus"});
        v1::NumaNode& node = *spec.add_numa();
        node.set_memory_bytes(fields.bytes("memory").value_or(0));
        for (const YAML::Node& vcpu : fields.list("vcpus")) {
            const std::string text = vcpu.IsScalar() ? vcpu.Scalar() : "";
            if (text.empty() || text.size() > 3 ||
                text.find_first_not_of("0123456789") != std::string::npos)
                fields.fault("vcpus", fmt::format("\"{}\" is no number of a vCPU", text));
            else
                node.add_vcpus(static_cast<uint32_t>(std::stoul(text)));
        }
    }
}

void read_hotplug(YamlFile& file, const YamlFields& top, v1::VmSpec& spec) {
    const YAML::Node node = top.child("hotplug");
    if (node.IsNull()) return;
    const YamlFields fields(file, node, "hotplug", {"slots", "max_memory"});
    spec.mutable_hotplug()->set_slots(fields.number("slots").value_or(0));
    spec.mutable_hotplug()->set_max_memory_bytes(fields.bytes("max_memory").value_or(0));
}

void read_scalars(const YamlFields& top, const std::filesystem::path& directory, v1::VmSpec& spec) {
    static constexpr std::array<std::pair<std::string_view, v1::Accel>, 3> kAccels{
        {{"auto", v1::ACCEL_AUTO}, {"kvm", v1::ACCEL_KVM}, {"tcg", v1::ACCEL_TCG}}};
    static constexpr std::array<std::pair<std::string_view, v1::MemoryBacking>, 3> kBackings{
        {{"thp", v1::MEMORY_BACKING_THP},
         {"4k", v1::MEMORY_BACKING_4K},
         {"hugetlb-2M", v1::MEMORY_BACKING_HUGETLB_2M}}};
    static constexpr std::array<std::pair<std::string_view, v1::Display>, 2> kDisplays{
        {{"none", v1::DISPLAY_NONE}, {"vnc", v1::DISPLAY_VNC}}};
    spec.set_name(top.text("name").value_or(""));
    spec.set_uuid(top.text("uuid").value_or(""));
    spec.set_memory_bytes(top.bytes("memory").value_or(0));
    const std::optional<uint32_t> vcpus = top.number("vcpus");
    if (vcpus == 0U) top.fault("vcpus", "0 is not within 1 to 255");
    spec.set_vcpus(vcpus.value_or(1));
    spec.set_accel(choice(top, "accel", kAccels).value_or(v1::ACCEL_AUTO));
    spec.set_memory_backing(
        choice(top, "memory_backing", kBackings).value_or(v1::MEMORY_BACKING_THP));
    spec.set_machine(top.text("machine").value_or("q35"));
    spec.set_cpu(top.text("cpu").value_or(""));
    spec.set_firmware(absolute(top.text("firmware").value_or(""), directory));
    spec.set_kernel(absolute(top.text("kernel").value_or(""), directory));
    spec.set_initrd(absolute(top.text("initrd").value_or(""), directory));
    spec.set_append(top.text("append").value_or(""));
    spec.set_balloon(top.boolean("balloon").value_or(false));
    spec.set_no_resident(!top.boolean("resident").value_or(true));
    spec.set_display(choice(top, "display", kDisplays).value_or(v1::DISPLAY_NONE));
}

}  // namespace

absl::StatusOr<v1::VmSpec> parse_vm_file(const std::string& text, const std::string& path) {
    YamlFile file(path);
    v1::VmSpec spec;
    try {
        const YAML::Node root = YAML::Load(text);
        const std::filesystem::path directory = std::filesystem::absolute(path).parent_path();
        const YamlFields top(file, root, "",
                             {"name", "uuid", "memory", "memory_backing", "vcpus", "accel",
                              "machine", "cpu", "kernel", "initrd", "append", "firmware", "disks",
                              "nics", "numa", "hotplug", "balloon", "resident", "display"});
        read_scalars(top, directory, spec);
        read_disks(file, top, directory, spec);
        read_nics(file, top, spec);
        read_numa(file, top, spec);
        read_hotplug(file, top, spec);
    } catch (const YAML::Exception& error) {
        file.fault(error.mark.is_null() ? 1 : error.mark.line + 1, "", error.msg);
    } catch (const std::exception& error) {
        file.fault(1, "", error.what());
    }
    if (file.status().ok())
        if (const std::optional<SpecFault> broken = find_spec_fault(spec))
            file.fault(file.line_of(broken->field), broken->field, broken->message);
    if (!file.status().ok()) return file.status();
    return spec;
}

absl::StatusOr<v1::VmSpec> read_vm_file(const std::string& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error))
        return absl::InvalidArgumentError(fmt::format("VM file {} is a directory", path));
    std::ifstream in(path, std::ios::binary);
    if (!in) return errno_status(errno, fmt::format("Cannot open the VM file {}", path));
    std::string text(kMaxFileBytes + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxFileBytes)
        return absl::InvalidArgumentError(fmt::format("{}:1: is larger than 1 MiB", path));
    return parse_vm_file(text, path);
}

}  // namespace godwit
