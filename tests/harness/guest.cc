#include "tests/harness/guest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace godwit::testing {
namespace {

constexpr Duration kBootLimit = std::chrono::seconds(60);
constexpr const char* kQboot = "/usr/share/qemu/qboot.rom";

// Nothing where the name is empty.
Testimony testimony_in(const std::string& ram_file) {
    Testimony said;
    if (ram_file.empty()) return said;
    const auto reader = MailboxReader::open(ram_file);
    if (!reader.ok()) return said;
    const auto mailbox = reader->read();
    if (!mailbox.ok()) return said;
    said.state = static_cast<GuestState>(mailbox->state);
    for (uint64_t i = 0; i < mailbox->vcpu_count && i < kMaxVcpus; ++i) {
        const MailboxVcpu& vcpu = mailbox->vcpus[i];
        said.ticks += vcpu.tick;
        said.writes += vcpu.writes;
        said.checked += vcpu.checked;
        said.errors += vcpu.errors;
        if (vcpu.errors > 0)
            said.first_error += fmt::format("vCPU {}: page {}, kind {}; ", i, vcpu.first_bad_page,
                                            vcpu.first_bad_kind);
    }
    said.disk_reads = mailbox->disk.reads;
    said.errors += mailbox->disk.errors;
    if (mailbox->disk.errors > 0)
        said.first_error += fmt::format("disk: pool page {}, kind {}", mailbox->disk.first_bad_page,
                                        mailbox->disk.first_bad_kind);
    return said;
}

}  // namespace

std::string missing(const std::string& accel) {
    if (accel == "kvm" && ::access("/dev/kvm", R_OK | W_OK) != 0) return "/dev/kvm can't be opened";
    return {};
}

std::string accel_here() {
    const std::string reason = missing("kvm");
    if (reason.empty()) return "kvm";
    std::printf("without KVM, so with TCG: %s\n", reason.c_str());
    return "tcg";
}

GuestOptions small_guest(const std::string& name) {
    return {.name = name, .accel = accel_here(), .append = "ws=16M rate=5000 sweep=5000 rest=halt"};
}

std::string write_vm_file(const TestAgent& agent, const GuestOptions& options) {
    std::string path = fmt::format("{}/{}.yaml", agent.state_dir(), options.name);
    std::ofstream file(path);
    file << fmt::format(
        "name: {}\nmemory: {}\nmemory_backing: {}\nvcpus: {}\naccel: {}\nkernel: {}\n"
        "append: \"{} vcpus={}\"\n",
        options.name, options.memory, options.backing, options.vcpus, options.accel,
        program("guest.elf"), options.append, options.vcpus);
    // SeaBIOS takes seconds under this kind of KVM; qboot does not.
    if (std::filesystem::exists(kQboot)) file << fmt::format("firmware: {}\n", kQboot);
    file << options.extra;
    return path;
}

void start_guest(TestAgent& agent, const GuestOptions& options) {
    const CommandResult started = agent.cli({"vm", "start", write_vm_file(agent, options)});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    const bool running = eventually(kBootLimit, [&] {
        const Testimony said = testimony(agent, options.name);
        return said.state == GuestState::kRunning || said.state == GuestState::kBadConfig ||
               said.state == GuestState::kCrashed;
    });
    const Testimony said = testimony(agent, options.name);
    ASSERT_TRUE(running && said.state == GuestState::kRunning)
        << "the guest did not boot: " << agent.cli({"vm", "log", options.name}).out;
}

Testimony testimony(TestAgent& agent, const std::string& vm) {
    return testimony_in(agent.ram_file(vm));
}

void expect_alive_and_well(TestAgent& agent, const std::string& vm, uint64_t pages) {
    // Asked for once: many agents and guests may share this machine.
    const std::string ram_file = agent.ram_file(vm);
    const Testimony before = testimony_in(ram_file);
    Testimony now;
    const bool alive = eventually(std::chrono::seconds(30), [&] {
        now = testimony_in(ram_file);
        return now.ticks > before.ticks && now.checked >= before.checked + pages;
    });
    EXPECT_TRUE(alive) << vm << " does not go on at " << agent.address() << ": ticks "
                       << before.ticks << " -> " << now.ticks << ", checked " << before.checked
                       << " -> " << now.checked;
    EXPECT_EQ(now.state, GuestState::kRunning);
    EXPECT_EQ(now.errors, 0U) << now.first_error;
}

std::string make_guest_disk(const TestAgent& agent, const std::string& size) {
    std::string path = agent.state_dir() + "/guest-disk.raw";
    const CommandResult made = run_command({program("guest-disk"), path, size});
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return path;
}

std::string linux_guest_dir() {
    const std::string dir = GODWIT_LINUX_GUEST_DIR;
    return std::filesystem::exists(dir + "/initrd.img") ? dir : std::string();
}

}  // namespace godwit::testing
