#include "bench/lab/peer_argv.h"

#include <fmt/format.h>

#include "engine/guest/qemu/qemu_argv.h"

namespace godwit {

std::string guest_append(const GuestConfig& guest) {
    return fmt::format("ws={}K rate={} pattern=random sweep=0 seed={}", guest.working_set >> 10,
                       guest.writes_per_s, guest.seed);
}

std::vector<std::string> peer_argv(const PeerSetup& setup) {
    const GuestConfig& guest = setup.guest;
    const bool shared = !setup.ram_file.empty();
    std::vector<std::string> argv{setup.program,
                                  "-name",
                                  "lab,debug-threads=on",
                                  "-machine",
                                  fmt::format("q35,accel={}{}", guest.kvm ? "kvm" : "tcg",
                                              shared ? ",memory-backend=ram0" : ""),
                                  "-m",
                                  fmt::format("size={}M", guest.memory >> 20),
                                  "-smp",
                                  "1"};
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
    if (setup.incoming) add("-incoming", "defer");
    if (setup.paused) argv.emplace_back("-S");
    return argv;
}

}  // namespace godwit
