// Source hosts and VMs that can't be migrated. Each is refused before anything is touched.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/hostile/qemu_wrapper.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kWithoutPtrace = {"setpriv", "--bounding-set=-sys_ptrace",
                                                 "--inh-caps=-sys_ptrace"};

int number_in(const std::string& path) {
    int number = -1;
    std::ifstream(path) >> number;
    return number;
}

TEST(SourceHost, RefusesAVmThatItDoesNotHave) {
    TestAgent a, b;
    const CommandResult result = migrate(a, b.address(), "nobody");
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(last_line(result.err), HasSubstr("no VM named nobody"));
    EXPECT_THAT(last_line(result.err), HasSubstr("a retry is safe"));
    const nlohmann::json error = json_of(result);
    ASSERT_TRUE(error.is_object()) << result.out;
    EXPECT_EQ(error["reason"], "NOT_FOUND");
    EXPECT_EQ(error["retry_safe"], true);
    expect_nothing_left(b, "nobody");
}

TEST(SourceHost, RefusesRamThatIsNotSharedAndSaysHowToStartQemu) {
    const ScratchDirectory scratch;
    const std::string qemu = write_qemu_wrapper(
        scratch.file("qemu"), "exec qemu-system-x86_64 \"${@//share=on/share=off}\"");
    TestAgent a({.flags = {"--qemu", qemu}}), b;
    // Private RAM never reaches the file: whether the guest lives is seen in its serial log only.
    const CommandResult started = a.cli({"vm", "start", write_vm_file(a, small_guest())});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    const CommandResult result = migrate(a, b.address());
    EXPECT_EQ(result.exit_code, 3) << result.err;
    EXPECT_THAT(last_line(result.err), HasSubstr("start it with share=on"));
    EXPECT_THAT(last_line(result.err), HasSubstr("ram0"));
    EXPECT_THAT(last_line(result.err), HasSubstr("the guest is at the source"));
    EXPECT_EQ(json_of(result)["guest_at"], "source");
    EXPECT_EQ(a.vm("vm")["state"], "running");
    expect_nothing_left(b);
}

TEST(SourceHost, WithoutPermissionToPtraceSaysWhichCapabilityIsMissing) {
    TestAgent a, b;
    start_guest(a, small_guest());
    // The QEMU has more capabilities than the agent that adopts it: the kernel refuses.
    a.restart({.wrapper = kWithoutPtrace});
    ASSERT_EQ(a.vm("vm")["state"], "running");
    expect_at_source(a, migrate(a, b.address()), {.words = {"CAP_SYS_PTRACE"}});
    expect_nothing_left(b);
}

TEST(SourceHost, WithoutUserfaultfdSaysWhichSettingForbidsIt) {
    if (number_in("/proc/sys/vm/unprivileged_userfaultfd") != 0)
        GTEST_SKIP() << "vm.unprivileged_userfaultfd is not 0 here";
    const ScratchDirectory scratch;
    const std::string qemu = write_qemu_wrapper(
        scratch.file("qemu"),
        fmt::format("exec {} qemu-system-x86_64 \"$@\"", fmt::join(kWithoutPtrace, " ")));
    TestAgent a({.flags = {"--qemu", qemu}}), b;
    start_guest(a, small_guest());
    expect_at_source(a, migrate(a, b.address()),
                     {.words = {"userfaultfd", "EPERM", "vm.unprivileged_userfaultfd=1"}});
    expect_nothing_left(b);
}

TEST(SourceHost, WithoutUserfaultfdOfItsOwnShowsItInGodwitHost) {
    if (number_in("/proc/sys/vm/unprivileged_userfaultfd") != 0)
        GTEST_SKIP() << "vm.unprivileged_userfaultfd is not 0 here";
    TestAgent a({.wrapper = kWithoutPtrace});
    const nlohmann::json host = a.cli_json({"host"});
    ASSERT_GE(host["tracker_problems"].size(), 1U);
    EXPECT_THAT(host["tracker_problems"][0].get<std::string>(),
                HasSubstr("vm.unprivileged_userfaultfd=1"));
    EXPECT_TRUE(host["trackers"].empty());
}

TEST(SourceHost, PassesOnWhichDeviceQemuCallsUnmigratable) {
    const ScratchDirectory scratch;
    const std::string disk = scratch.file("vm.vmdk");
    ASSERT_EQ(run_command({"qemu-img", "create", "-f", "vmdk", disk, "8M"}).exit_code, 0);
    TestAgent a, b;
    GuestOptions guest = small_guest();
    guest.append += " disk=off";
    guest.extra =
        fmt::format("disks:\n  - path: {}\n    format: vmdk\n    cache: writeback\n", disk);
    start_guest(a, guest);
    expect_at_source(a, migrate(a, b.address()),
                     {.words = {"QEMU can't migrate this VM", "vmdk", "disk0"}});
    expect_nothing_left(b);
}

TEST(SourceHost, RefusesASecondMigrationOfTheSameVm) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const CommandResult first = a.cli({"migrate", "vm", "--to", b.address(), "--bandwidth",
                                       "4MiB/s", "--id", "first", "--detach"});
    ASSERT_EQ(first.exit_code, 0) << first.err;
    const CommandResult second = migrate(a, b.address());
    EXPECT_EQ(second.exit_code, 3);
    EXPECT_THAT(last_line(second.err), HasSubstr("in use by migration first"));
    EXPECT_EQ(a.cli({"cancel", "first"}).exit_code, 0);
    const CommandResult watched = a.cli({"watch", "first", "--json"});
    expect_at_source(a, watched, {.exit_code = 5, .outcome = "cancelled"});
    expect_nothing_left(b);
}

}  // namespace
}  // namespace godwit::testing
