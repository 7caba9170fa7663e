#include "bench/lab/peer_argv.h"

#include <fmt/format.h>

#include "engine/guest/qemu/qemu_argv.h"

namespace godwit {

std::string guest_append(const GuestConfig& guest) {
    return fmt::format("ws={}K rate={}{}{} seed={}{}{}", guest.working_set >> 10,
                       guest.idle ? "idle" : std::to_string(guest.writes_per_s),
                       guest.content.find("pattern=") == std::string::npos ? " pattern=random" : "",
                       guest.idle ? "" : " sweep=0", guest.seed, guest.content.empty() ? "" : " ",
                       guest.content);
}

v1::MemoryBacking memory_backing(const GuestConfig& guest) {
    if (guest.backing == "4k") return v1::MEMORY_BACKING_4K;
    if (guest.backing == "hugetlb-2M") return v1::MEMORY_BACKING_HUGETLB_2M;
    return v1::MEMORY_BACKING_THP;
}

absl::Status check_guest(const GuestConfig& guest) {
    if (guest.memory == 0 || guest.memory % kChunkBytes != 0)
        return absl::InvalidArgumentError("--guest-memory must be a multiple of 2 MiB");
    if (guest.working_set == 0 || guest.working_set % kPageBytes != 0)
        return absl::InvalidArgumentError("--ws must be whole pages");
    return absl::OkStatus();
}

std::vector<std::string> peer_argv(const PeerSetup& setup) {
    const GuestConfig& guest = setup.guest;
    const bool shared = !setup.ram_file.empty();
    std::vector<std::string> argv = setup.wrapper;
    argv.insert(argv.end(), {setup.program, "-name", "lab,debug-threads=on", "-machine",
                             fmt::format("q35,accel={}{}", guest.kvm ? "kvm" : "tcg",
                                         shared ? ",memory-backend=ram0" : ""),
                             "-m", fmt::format("size={}M", guest.memory >> 20), "-smp", "1"});
    const auto add = [&](const char* option, std::string value) {
        argv.emplace_back(option);
        argv.push_back(std::move(value));
    };
    if (!guest.cpu.empty()) add("-cpu", guest.cpu);
    // As the agent writes it, so that huge folios are mapped by PMD here too.
    if (shared)
        add("-object", fmt::format("memory-backend-file,id=ram0,mem-path={},share=on,align=2M,"
                                   "size={},prealloc=off",
                                   escape_commas(setup.ram_file), guest.memory));
    argv.insert(argv.end(), {"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"});
    add("-chardev", fmt::format("socket,id=qmp,fd={}", setup.qmp_fd));
    add("-mon", "chardev=qmp,mode=control");
    add("-serial", "null");
    if (!guest.firmware.empty()) add("-bios", guest.firmware);
    add("-kernel", guest.kernel);
    add("-append", guest.append.empty() ? guest_append(guest) : guest.append);
    if (!guest.initrd.empty()) add("-initrd", guest.initrd);
    if (!guest.disk.empty()) {
        add("-drive", fmt::format("file={},if=none,id=disk0,format=raw,cache=none",
                                  escape_commas(guest.disk)));
        add("-device", "virtio-blk-pci,drive=disk0");
    }
    if (setup.tap_fd >= 0) {
        add("-netdev", fmt::format("tap,id=net0,fd={},vhost=off", setup.tap_fd));
        add("-device", fmt::format("virtio-net-pci,netdev=net0,mac={},romfile=", guest.mac));
    }
    if (setup.incoming) add("-incoming", "defer");
    if (setup.paused) argv.emplace_back("-S");
    return argv;
}

}  // namespace godwit
