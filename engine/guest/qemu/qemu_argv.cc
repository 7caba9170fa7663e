#include "engine/guest/qemu/qemu_argv.h"

#include <fmt/format.h>

namespace godwit {
namespace {

constexpr int kVgaSlot = 0x1;
constexpr int kFirstNicSlot = 0x2;
constexpr int kBalloonSlot = 0xa;
constexpr int kFirstDiskSlot = 0xb;

using Argv = std::vector<std::string>;

const char* on_off(bool value) { return value ? "on" : "off"; }

void add(Argv& argv, std::string option, std::string value) {
    argv.push_back(std::move(option));
    argv.push_back(std::move(value));
}

void add_machine(Argv& argv, const v1::VmSpec& spec) {
    add(argv, "-name", fmt::format("guest={},debug-threads=on", spec.name()));
    add(argv, "-uuid", spec.uuid());
    add(argv, "-machine",
        fmt::format("{},accel={}{}", spec.machine(), spec.accel() == v1::ACCEL_KVM ? "kvm" : "tcg",
                    spec.numa_size() == 0 ? ",memory-backend=ram0" : ""));
    add(argv, "-cpu", spec.cpu());
    add(argv, "-smp", fmt::format("{}", spec.vcpus()));
}

void add_memory(Argv& argv, const v1::VmSpec& spec, const std::vector<std::string>& ram_files) {
    std::string memory = fmt::format("size={}M", spec.memory_bytes() >> 20);
    if (spec.has_hotplug())
        memory += fmt::format(",slots={},maxmem={}M", spec.hotplug().slots(),
                              spec.hotplug().max_memory_bytes() >> 20);
    add(argv, "-m", memory);
    const std::vector<Bytes> sizes = ram_block_sizes(spec);
    for (size_t i = 0; i < sizes.size(); ++i)
        // align=2M: only then does QEMU map huge folios of tmpfs by PMD.
        add(argv, "-object",
            fmt::format("memory-backend-file,id=ram{},mem-path={},share=on,align=2M,size={},"
                        "prealloc=off",
                        i, escape_commas(ram_files[i]), sizes[i]));
    for (int node = 0; node < spec.numa_size(); ++node) {
        std::string numa = fmt::format("node,nodeid={},memdev=ram{}", node, node);
        for (const uint32_t vcpu : spec.numa(node).vcpus()) numa += fmt::format(",cpus={}", vcpu);
        add(argv, "-numa", numa);
    }
}

void add_monitor(Argv& argv, const std::string& id, int fd) {
    add(argv, "-chardev", fmt::format("socket,id={},fd={},server=on,wait=off", id, fd));
    add(argv, "-mon", fmt::format("chardev={},mode=control", id));
}

void add_display(Argv& argv, const v1::VmSpec& spec, const std::string& vnc_socket) {
    const bool vnc = spec.display() == v1::DISPLAY_VNC;
    add(argv, "-display", vnc ? "vnc=unix:" + escape_commas(vnc_socket) : "none");
    add(argv, "-vga", "none");
    if (vnc) add(argv, "-device", fmt::format("VGA,id=vga0,addr={:#x}", kVgaSlot));
}

void add_consoles(Argv& argv, const QemuArgvInputs& inputs) {
    argv.insert(argv.end(), {"-nodefaults", "-no-user-config"});
    add_monitor(argv, "qmp", inputs.qmp_fd);
    add_monitor(argv, "guard", inputs.guard_fd);
    add(argv, "-chardev",
        fmt::format("file,id=serial0,path={},append=on", escape_commas(inputs.serial_log)));
    add(argv, "-serial", "chardev:serial0");
    add(argv, "-msg", "timestamp=on");
    // What libvirt uses too. Attaching from outside and the resident work with it.
    add(argv, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

void add_boot(Argv& argv, const v1::VmSpec& spec) {
    if (!spec.firmware().empty()) add(argv, "-bios", spec.firmware());
    if (spec.kernel().empty()) return;
    add(argv, "-kernel", spec.kernel());
    if (!spec.initrd().empty()) add(argv, "-initrd", spec.initrd());
    if (!spec.append().empty()) add(argv, "-append", spec.append());
}

void add_disks(Argv& argv, const v1::VmSpec& spec, const std::vector<bool>& disk_is_device) {
    for (int i = 0; i < spec.disks_size(); ++i) {
        const v1::Disk& disk = spec.disks(i);
        const std::string flags =
            fmt::format("read-only={},cache.direct={},cache.no-flush=off", on_off(disk.readonly()),
                        on_off(disk.cache() == v1::DISK_CACHE_NONE));
        // aio=threads works on every file system, with and without O_DIRECT.
        add(argv, "-blockdev",
            fmt::format("driver={},node-name=disk{}-file,filename={},aio=threads,{}",
                        disk_is_device[static_cast<size_t>(i)] ? "host_device" : "file", i,
                        escape_commas(disk.path()), flags));
        add(argv, "-blockdev",
            fmt::format("driver={},node-name=disk{},file=disk{}-file,{}", disk.format(), i, i,
                        flags));
        add(argv, "-device",
            fmt::format("virtio-blk-pci,id=vdisk{},drive=disk{},addr={:#x},bootindex={}", i, i,
                        kFirstDiskSlot + i, i + 1));
    }
}

void add_nics(Argv& argv, const v1::VmSpec& spec, const std::vector<int>& tap_fds) {
    for (int i = 0; i < spec.nics_size(); ++i) {
        const int tap_fd = tap_fds[static_cast<size_t>(i)];
        // vhost=off: the frames that arrive are QEMU's own writes, in QEMU's own mapping.
        add(argv, "-netdev",
            tap_fd < 0 ? fmt::format("user,id=net{}", i)
                       : fmt::format("tap,id=net{},fd={},vhost=off", i, tap_fd));
        // No boot ROM: it is half a megabyte per NIC that would travel within the pause.
        add(argv, "-device",
            fmt::format("virtio-net-pci,id=nic{},netdev=net{},mac={},addr={:#x},romfile=", i, i,
                        spec.nics(i).mac(), kFirstNicSlot + i));
    }
}

}  // namespace

std::string escape_commas(const std::string& value) {
    std::string escaped;
    for (const char c : value) {
        if (c == ',') escaped += ',';
        escaped += c;
    }
    return escaped;
}

std::vector<Bytes> ram_block_sizes(const v1::VmSpec& spec) {
    std::vector<Bytes> sizes;
    for (const v1::NumaNode& node : spec.numa()) sizes.push_back(node.memory_bytes());
    if (sizes.empty()) sizes.push_back(spec.memory_bytes());
    return sizes;
}

std::vector<std::string> render_qemu_argv(const v1::VmSpec& spec, const QemuArgvInputs& inputs) {
    Argv argv{inputs.program};
    add_machine(argv, spec);
    add_memory(argv, spec, inputs.ram_files);
    add_consoles(argv, inputs);
    add_display(argv, spec, inputs.vnc_socket);
    add_boot(argv, spec);
    add_disks(argv, spec, inputs.disk_is_device);
    add_nics(argv, spec, inputs.tap_fds);
    if (spec.balloon())
        add(argv, "-device",
            fmt::format("virtio-balloon-pci,id=balloon0,addr={:#x}", kBalloonSlot));
    if (inputs.incoming) {
        argv.push_back("-S");
        add(argv, "-incoming", "defer");
    }
    return argv;
}

}  // namespace godwit
