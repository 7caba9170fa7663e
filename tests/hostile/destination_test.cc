// Destinations that can't take the VM. Each says why; the guest runs on at the source.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <vector>

#include "engine/handover/journal.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/hostile/qemu_wrapper.h"
#include "transport/stream/tcp_listener.h"

namespace godwit::testing {
namespace {

// A port on which nobody listens any more.
std::string dead_address() {
    const auto listener = TcpListener::bind("127.0.0.1", 0);
    return fmt::format("127.0.0.1:{}", listener.ok() ? listener->port() : 1);
}

// An agent that sees `shown` where everybody else sees `path`; nothing at all when `shown` is "".
AgentOptions with_other_file(const std::string& path, const std::string& shown) {
    const std::string change = shown.empty()
                                   ? fmt::format("mount -t tmpfs none $(dirname {})", path)
                                   : fmt::format("mount --bind {} {}", shown, path);
    return {.wrapper = {"unshare", "-m", "sh", "-c", change + " && exec \"$@\"", "sh"}};
}

TEST(Destination, ThatCannotBeReachedIsNamedAndTheGuestRunsOn) {
    TestAgent a;
    start_guest(a, small_guest());
    const std::string nowhere = dead_address();
    expect_at_source(a, migrate(a, nowhere), {.words = {nowhere, "is godwitd running there"}});
}

TEST(Destination, ThatIsNoAgentIsNamedAndTheGuestRunsOn) {
    TestAgent a;
    start_guest(a, small_guest());
    const auto mute = TcpListener::bind("127.0.0.1", 0);  // takes connections, says nothing
    ASSERT_TRUE(mute.ok());
    const std::string address = fmt::format("127.0.0.1:{}", mute->port());
    expect_at_source(a, migrate(a, address), {.words = {address, "is godwitd running there"}});
}

TEST(Destination, WithoutRoomSaysHowMuchItHas) {
    TestAgent a, b({.flags = {"--memory-limit", "64MiB"}});
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.words = {b.address(), "256.00 MiB", "limit of 64.00 MiB"}});
    expect_nothing_left(b);
}

TEST(Destination, ThatHasAVmOfThatNameKeepsItsOwn) {
    TestAgent a, b;
    start_guest(a, small_guest());
    start_guest(b, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.words = {b.address(), "already has a VM named vm"}});
    expect_alive_and_well(b, "vm", 100);
}

TEST(Destination, ThatIsTheSourceItselfSaysSo) {
    TestAgent a;
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, a.address()), {.words = {"is the source itself"}});
}

TEST(Destination, WhoseQemuDiesWhilePreparingPassesItsWordsOn) {
    const ScratchDirectory scratch;
    TestAgent a,
        b({.flags = {"--qemu", write_qemu_wrapper(scratch.file("qemu"),
                                                  "echo 'the disk is on fire' >&2; exit 1")}});
    start_guest(a, small_guest());
    expect_at_source(
        a, migrate(a, b.address()),
        {.exit_code = 1, .outcome = "failed", .words = {b.address(), "the disk is on fire"}});
    expect_nothing_left(b);
}

// What is left of a failed Prepare must not be taken for the VM that comes later.
TEST(Destination, ThatFailedOnceAndIsRestartedKeepsTheGuestThatItGotLater) {
    const ScratchDirectory scratch;
    TestAgent a,
        b({.flags = {"--qemu", write_qemu_wrapper(scratch.file("qemu"), "echo no >&2; exit 1")}});
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.exit_code = 1, .outcome = "failed", .words = {"no"}});
    b.end();
    b.restart(AgentOptions{});
    ASSERT_EQ(migrate(a, b.address()).exit_code, 0);
    const pid_t pid = b.qemu_pid("vm");
    b.end();
    b.restart();
    EXPECT_EQ(b.qemu_pid("vm"), pid);
    EXPECT_EQ(b.vm("vm")["state"], "running");
}

TEST(Destination, WhoseQemuHangsAtItsStartIsGivenUp) {
    const ScratchDirectory scratch;
    TestAgent a,
        b({.flags = {"--qemu", write_qemu_wrapper(scratch.file("qemu"), "exec sleep 1000")}});
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.exit_code = 1, .outcome = "failed", .words = {b.address(), "vm"}});
    expect_nothing_left(b);
    // A record that stayed LIVE would have a later agent look for a VM of that name.
    const std::vector<v1::JournalRecord> records = Journal::load_all(b.state_dir());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records.front().phase(), v1::JOURNAL_PHASE_REFUSED);
}

TEST(Destination, WithAnotherKernelFileIsToldToCopyIt) {
    const ScratchDirectory scratch;
    std::ofstream(scratch.file("other.elf")) << "another kernel";
    TestAgent a, b(with_other_file(program("guest.elf"), scratch.file("other.elf")));
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.words = {program("guest.elf"), "differs from the source's"}});
    expect_nothing_left(b);
}

TEST(Destination, WithoutTheDiskNamesIt) {
    const ScratchDirectory scratch;
    const std::string disk = scratch.file("vm.raw");
    ASSERT_EQ(run_command({"qemu-img", "create", "-f", "raw", disk, "8M"}).exit_code, 0);
    TestAgent a, b(with_other_file(disk, ""));
    GuestOptions guest = small_guest();
    guest.append += " disk=off";
    guest.extra =
        fmt::format("disks:\n  - path: {}\n    format: raw\n    cache: writeback\n", disk);
    start_guest(a, guest);
    expect_at_source(a, migrate(a, b.address()), {.words = {"disks[0].path", disk, "ENOENT"}});
    expect_nothing_left(b);
}

}  // namespace
}  // namespace godwit::testing
