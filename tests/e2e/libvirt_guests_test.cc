// Domains of other kinds: a Linux guest, RAM on hugetlbfs, and one whose last pages come slowly.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/linux_console.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"
#include "tests/harness/moving.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

constexpr Duration kGuestLimit = std::chrono::seconds(90);
constexpr int kHugeGuestMib = 128;

class DomainOfAKind : public LibvirtPair {
  protected:
    void SetUp() override {
        LibvirtPair::SetUp();
        ::setenv("GODWIT_TEST_TRACKER", "uffd-wp", 1);  // NOLINT(concurrency-mt-unsafe): one thread
    }
};

// Each of its testimonies comes again, and none tells of a fault.
void expect_linux_goes_on(const LinuxConsole& console) {
    const auto before = console.counts();
    const auto more = [&](const char* kind, uint64_t lines) {
        const auto was = before.find(kind);
        return console.counts()[kind] >= (was == before.end() ? 0 : was->second) + lines;
    };
    EXPECT_TRUE(eventually(kGuestLimit, [&] {
        return more("tick", 10) && more("disk ok", 4) && more("mem ok", 2) && more("net ok", 2);
    })) << console.text();
    EXPECT_THAT(console.faults(), IsEmpty()) << console.text();
}

TEST_F(DomainOfAKind, RunsLinuxWithDiskAndNetworkThereAndBack) {
    if (linux_guest_dir().empty())
        GTEST_SKIP() << "no Linux guest: run tests/e2e/linux_guest/make.sh build/linux-guest";
    const std::string disk = a->state_dir() + "/linux.raw";
    const std::string serial = a->state_dir() + "/linux.log";
    ASSERT_EQ(run_command({"truncate", "-s", "16M", disk}).exit_code, 0);
    ASSERT_EQ(run_command({"touch", serial}).exit_code, 0);
    DomainOptions domain{
        .type = "qemu",
        .vcpus = 2,
        .kernel = linux_guest_dir() + "/vmlinuz",
        .initrd = linux_guest_dir() + "/initrd.img",
        .append =
            "console=ttyS0 quiet panic=-1 oops=panic tsc=reliable no_timer_check "
            "mitigations=off init_on_alloc=0",
        .serial =
            fmt::format("<serial type='file'><source path='{}' append='on'/></serial>", serial),
        .devices = fmt::format(
            "<disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{}'/>"
            "<target dev='vda' bus='virtio'/></disk>"
            "<interface type='user'><model type='virtio'/></interface>",
            disk)};
    ASSERT_EQ(host_a.virsh({"define", host_a.write_xml(domain_xml(domain))}).exit_code, 0);
    const CommandResult started = host_a.virsh({"start", kVm});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    LinuxConsole console;
    console.follow_file(serial);
    expect_linux_goes_on(console);
    for (const auto& [from, to] : {std::pair{&*a, &*b}, std::pair{&*b, &*a}}) {
        if (HasFailure()) return;
        move_guest(*from, *to, kVm);
        expect_linux_goes_on(console);
    }
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "");
}

// Where libvirt's memory directory is on hugetlbfs; <hugepages/> makes files that have no name.
TEST(DomainOnHugetlbfs, GoesThereAndBack) {
    if (!missing("kvm").empty()) GTEST_SKIP() << missing("kvm");
    ::setenv("GODWIT_TEST_TRACKER", "uffd-wp", 1);  // NOLINT(concurrency-mt-unsafe): one thread
    const ReservedHugePages pages(2 * kHugeGuestMib / 2);
    if (!pages.enough()) GTEST_SKIP() << "no huge pages to reserve";
    LibvirtHost here{"hosta", "/run/godwit-huge"};
    if (!here.problem().empty()) GTEST_SKIP() << here.problem();
    const LibvirtHost there{"hostb", "/run/godwit-huge"};
    ASSERT_EQ(there.problem(), "");
    TestAgent a(here.agent());
    TestAgent b(there.agent());
    ASSERT_NO_FATAL_FAILURE(start_domain(
        here, a, {.memory_mib = kHugeGuestMib, .append = "ws=16M rate=5000 pattern=random"}));
    move_guest(a, b, "vm");
    if (HasFailure()) return;
    EXPECT_EQ(there.virsh_text({"domstate", "vm"}), "running");
    expect_alive_and_well(b, "vm");
    EXPECT_TRUE(eventually(kGuestLimit, [&] { return here.memory_files().empty(); }));
    move_guest(b, a, "vm", {"--strategy", "postcopy"});
    if (HasFailure()) return;
    expect_alive_and_well(a, "vm");
    EXPECT_TRUE(eventually(kGuestLimit, [&] { return there.memory_files().empty(); }));
    EXPECT_EQ(here.virsh({"destroy", "vm"}).exit_code, 0);
    EXPECT_TRUE(eventually(kGuestLimit, [&] { return here.memory_files().empty(); }));
}

TEST_F(DomainOfAKind, WaitsForItsLastPagesWhileVirshShowsIt) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    BackgroundCommand command = begin_migration({"--strategy", "postcopy", "--bandwidth", "4MB/s"});
    EXPECT_TRUE(eventually(kGuestLimit, [&] {
        return host_b.virsh({"domstate", kVm}).out.rfind("running", 0) == 0;
    }));
    EXPECT_TRUE(eventually(kGuestLimit, [&] {
        return host_a.virsh({"domstate", kVm}).out.rfind("shut off", 0) == 0;
    }));
    EXPECT_FALSE(command.wait(Duration::zero())) << "the drain is over already";
    // The RAM outlives libvirt's domain.
    EXPECT_THAT(host_a.memory_files(), Not(IsEmpty()));
    EXPECT_EQ(a->cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    ASSERT_TRUE(command.wait(kGuestLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

// A guest without its memory would be written down, while QEMU is told to leave that out.
TEST_F(DomainOfAKind, IsSavedWithAllOfItsPagesWhileTheLastOnesCome) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    BackgroundCommand command = begin_migration({"--strategy", "postcopy", "--bandwidth", "8MB/s"});
    EXPECT_TRUE(eventually(kGuestLimit, [&] {
        return host_b.virsh({"domstate", kVm}).out.rfind("running", 0) == 0;
    }));
    expect_capability_off(host_b);
    EXPECT_FALSE(command.wait(Duration::zero())) << "the drain is over already";
    const std::string file = b->state_dir() + "/saved";
    const CommandResult saved = host_b.virsh({"save", kVm, file});
    ASSERT_EQ(saved.exit_code, 0) << saved.err;
    ASSERT_TRUE(command.wait(kGuestLimit)) << command.result().err;
    const CommandResult restored = host_b.virsh({"restore", file});
    ASSERT_EQ(restored.exit_code, 0) << restored.err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

}  // namespace
}  // namespace godwit::testing
