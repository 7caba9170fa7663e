// What can be wrong with a domain or with the libvirt at the other end: each is said, and the guest
// runs on where it was.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "engine/base/unique_fd.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TwoLibvirts : public LibvirtPair {
  protected:
    // Refused with these words, and libvirt at both sides is as it was.
    void expect_refused(const std::vector<std::string>& words,
                        const std::string& at_destination = "") {
        const CommandResult result = migrate(*a, b->address());
        expect_at_source(*a, result, {.words = words});
        EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
        EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), at_destination);
        EXPECT_THAT(host_b.memory_files(), IsEmpty());
    }
    static void resize_memory(const LibvirtHost& host, const std::string& size) {
        const CommandResult sized =
            host.run({"mount", "-o", "remount,size=" + size, "/run/godwit-ram"});
        ASSERT_EQ(sized.exit_code, 0) << sized.err;
    }
    static void fill_memory(const LibvirtHost& host) {
        const CommandResult filled =
            host.run({"dd", "if=/dev/zero", "of=/run/godwit-ram/filler", "bs=64K"});
        ASSERT_THAT(filled.err, HasSubstr("No space left on device"));
    }
    void expect_nothing_at_b() {
        EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
        EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] {
            return host_b.virsh_text({"list", "--all", "--name"}).empty();
        }));
        EXPECT_EQ(host_b.run({"find", "/run/godwit-ram/libvirt", "-type", "f"}).out, "");
        expect_alive_and_well(*a, kVm);
    }
    // A domain with that <memoryBacking> is refused, and told what it should be.
    void expect_memory_refused(const std::string& backing, const std::string& words) {
        DomainOptions domain;
        domain.memory_backing = backing;
        ASSERT_EQ(host_a.virsh({"create", host_a.write_xml(domain_xml(domain))}).exit_code, 0);
        const CommandResult result = migrate(*a, b->address());
        EXPECT_EQ(result.exit_code, 3);
        EXPECT_THAT(result.err, HasSubstr(words));
        EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    }
};

TEST_F(TwoLibvirts, RefuseAnUnknownAndAnInactiveDomain) {
    const CommandResult unknown = a->cli({"migrate", "nobody", "--to", b->address()});
    EXPECT_EQ(unknown.exit_code, 3);
    EXPECT_THAT(unknown.err, HasSubstr("no VM named nobody"));
    ASSERT_EQ(host_a.virsh({"define", host_a.write_xml(domain_xml({}))}).exit_code, 0);
    const CommandResult inactive = a->cli({"migrate", kVm, "--to", b->address()});
    EXPECT_EQ(inactive.exit_code, 3);
    EXPECT_THAT(inactive.err, HasSubstr("cold move"));
}

TEST_F(TwoLibvirts, RefuseADomainWithPrivateMemoryAndNameTheSetting) {
    expect_memory_refused("", "<source type='file'/><access mode='shared'/>");
}

TEST_F(TwoLibvirts, RefuseAnonymousSharedMemoryAndNameTheSetting) {
    expect_memory_refused("<source type='memfd'/><access mode='shared'/>", "<source type='file'/>");
}

TEST_F(TwoLibvirts, RefuseANameThatIsTaken) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {}));
    DomainOptions other;
    other.uuid = "6f6b1d2e-0000-4000-8000-00000000000f";
    ASSERT_EQ(host_b.virsh({"define", host_b.write_xml(domain_xml(other))}).exit_code, 0);
    expect_refused({"another domain named vm"}, kVm);
}

TEST_F(TwoLibvirts, RefuseAUuidThatIsTaken) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {}));
    DomainOptions other;
    other.name = "other";
    ASSERT_EQ(host_b.virsh({"define", host_b.write_xml(domain_xml(other))}).exit_code, 0);
    expect_refused({"another domain with the UUID", "named other"}, "other");
}

TEST_F(TwoLibvirts, KeepTheGuestWhenTheOtherOneRejectsItsXml) {
    DomainOptions domain;
    domain.devices = "<memballoon model='none'/>";
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, domain));
    // A directory on the host where the destination would put the RAM file.
    const CommandResult blocked =
        run_command({"nsenter", "--mount=/proc/" + std::to_string(b->pid()) + "/ns/mnt", "mount",
                     "-o", "remount,ro", "/run/godwit-ram"});
    ASSERT_EQ(blocked.exit_code, 0) << blocked.err;
    const CommandResult result = migrate(*a, b->address());
    EXPECT_NE(result.exit_code, 0);
    EXPECT_THAT(result.err, HasSubstr("Cannot start domain vm"));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "");
    expect_alive_and_well(*a, kVm);
}

// QEMU would say no in the pause only, when it is to let go of the disk.
TEST_F(TwoLibvirts, RefuseADomainWhoseDiskIsBeingCopied) {
    DomainOptions domain;
    domain.devices = fmt::format(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>"
        "<target dev='vda' bus='virtio'/></disk>",
        make_guest_disk(*a, "16M"));
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, domain));
    const CommandResult copied = host_a.virsh(
        {"blockcopy", kVm, "vda", a->state_dir() + "/copy", "--transient-job", "--format", "raw"});
    ASSERT_EQ(copied.exit_code, 0) << copied.err;
    const CommandResult refused = migrate(*a, b->address());
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("a block job (mirror) copies"));
    EXPECT_THAT(host_a.virsh_text({"blockjob", kVm, "vda", "--raw"}), HasSubstr("Block Copy"));
    ASSERT_EQ(host_a.virsh({"blockjob", kVm, "vda", "--abort"}).exit_code, 0);
    expect_at_a_and_moves();
}

// A copy of the image, as an earlier move by hand leaves it.
TEST_F(TwoLibvirts, RefuseADiskWhosePathIsAnotherFileAtTheOtherHost) {
    const std::string disk = make_guest_disk(*a, "16M");
    const std::string copy = disk + ".copy";
    DomainOptions domain;
    domain.append += " disk=on diskrate=500";
    domain.devices = fmt::format(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>"
        "<target dev='vda' bus='virtio'/>"
        "<address type='pci' domain='0' bus='0' slot='0x10' function='0'/></disk>",
        disk);
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, domain));
    ASSERT_EQ(host_b.run({"cp", disk, copy}).exit_code, 0);
    ASSERT_EQ(host_b.run({"mount", "--bind", copy, disk}).exit_code, 0);
    expect_refused({disk, "is another one here than at the source", "--unsafe"});
    const CommandResult moved =
        migrate(*a, b->address(), kVm, {"--strategy", "stop-and-copy", "--unsafe"});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

// As a disk on NFS whose server is gone: whoever asks for it waits until that is back.
TEST_F(TwoLibvirts, RefuseADiskThatDoesNotAnswerWhicheverSideItIs) {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/fuse";
    const std::string disk = make_guest_disk(*a, "16M");
    DomainOptions domain;
    domain.devices = fmt::format(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>"
        "<target dev='vda' bus='virtio'/></disk>",
        disk);
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, domain));
    for (const LibvirtHost* host : {&host_b, &host_a}) {
        const UniqueFd server(::open("/dev/fuse", O_RDWR));  // mount inherits it
        const CommandResult mounted =
            host->run({"mount", "-i", "-t", "fuse", "-o",
                       fmt::format("fd={},rootmode=100000,user_id=0,group_id=0", server.get()),
                       "dead", disk});
        ASSERT_EQ(mounted.exit_code, 0) << mounted.err;
        expect_refused({"disk " + disk, "does not answer"});
        const CommandResult check = host_a.run({program("godwit"), "libvirt", "check", kVm});
        EXPECT_EQ(check.exit_code, host == &host_a ? 3 : 0) << check.out << check.err;
        ASSERT_EQ(host->run({"umount", "--lazy", disk}).exit_code, 0);
    }
    expect_at_a_and_moves();
}

TEST_F(TwoLibvirts, GoOnAfterLibvirtdWasRestarted) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {}));
    EXPECT_EQ(a->vm_names(), std::vector<std::string>{kVm});
    host_a.stop_libvirtd();
    const CommandResult refused = a->cli({"migrate", kVm, "--to", b->address()});
    EXPECT_EQ(refused.exit_code, 3);
    EXPECT_THAT(refused.err, HasSubstr("Cannot connect to libvirt"));
    host_a.start_libvirtd();
    const CommandResult moved = migrate(*a, b->address());
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_alive_and_well(*b, kVm);
}

TEST_F(TwoLibvirts, SayThatTheGuestDiedWhenSomebodyDestroysItsDomain) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {.append = "ws=128M rate=0 pattern=random"}));
    BackgroundCommand command = a->cli_in_background(
        {"migrate", kVm, "--to", b->address(), "--json", "--bandwidth", "10MB/s"});
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] {
        return host_b.virsh_text({"list", "--name"}) == kVm;
    }));
    ASSERT_EQ(host_a.virsh({"destroy", kVm}).exit_code, 0);
    ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
    EXPECT_NE(command.result().exit_code, 0);
    EXPECT_EQ(json_of(command.result())["guest_at"], "none");
    EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] {
        return host_b.virsh_text({"list", "--all", "--name"}).empty();
    }));
}

TEST_F(TwoLibvirts, SayThatTheOtherOnesMemoryDirectoryIsTooSmall) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {.append = "ws=128M rate=5000"}));
    resize_memory(host_b, "64M");
    for (const char* strategy : {"precopy", "postcopy", "stop-and-copy"}) {
        const CommandResult result =
            migrate(*a, b->address(), kVm, {"--strategy", strategy, "--tracker", "uffd-wp"});
        EXPECT_NE(result.exit_code, 0) << strategy;
        EXPECT_THAT(result.err, HasSubstr("are left on the tmpfs of /run/godwit-ram/"));
        EXPECT_EQ(json_of(result)["guest_at"], "source");
        expect_nothing_at_b();
    }
    resize_memory(host_b, "2G");
    expect_at_a_and_moves();
}

TEST_F(TwoLibvirts, GiveTheGuestBackWhenTheOtherOnesMemoryDirectoryFillsUpInARound) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {.append = "ws=128M rate=5000"}));
    resize_memory(host_b, "256M");
    BackgroundCommand command = begin_slow_migration();
    fill_memory(host_b);
    EXPECT_EQ(a->cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
    EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
    EXPECT_THAT(command.result().err, HasSubstr("No space left on device"));
    EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    expect_nothing_at_b();
    resize_memory(host_b, "2G");
    expect_at_a_and_moves();
}

// It is the destination's by then: it waits for room.
TEST_F(TwoLibvirts, LetTheGuestWaitWhenTheMemoryDirectoryFillsUpBeforeItsLastPagesCame) {
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *a, {.append = "ws=128M rate=5000"}));
    resize_memory(host_b, "256M");
    BackgroundCommand command = begin_migration({"--strategy", "postcopy", "--bandwidth", "4MB/s"});
    ASSERT_TRUE(eventually(std::chrono::seconds(60), [&] {
        return host_b.virsh({"domstate", kVm}).out.rfind("running", 0) == 0;
    }));
    fill_memory(host_b);
    EXPECT_EQ(a->cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
        return b->log().find("The guest waits: make room there") != std::string::npos;
    })) << b->log();
    EXPECT_FALSE(command.wait(Duration::zero())) << command.result().err;
    EXPECT_THAT(host_a.memory_files(), ::testing::Not(IsEmpty())) << "nobody has the last pages";
    resize_memory(host_b, "2G");
    ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

// libvirt's default, /var/lib/libvirt/qemu/ram, is one.
TEST(AMemoryDirectoryOnADisk, IsRefusedWithTheSettingToChange) {
    if (!missing("kvm").empty()) GTEST_SKIP() << missing("kvm");
    LibvirtHost host{"hosta", "/var/lib/libvirt/qemu/ram"};
    if (!host.problem().empty()) GTEST_SKIP() << host.problem();
    const CommandResult kind = host.run({"stat", "-f", "-c", "%T", "/var/lib/libvirt"});
    if (kind.out.rfind("tmpfs", 0) == 0) GTEST_SKIP() << "/tmp is on no disk here";
    TestAgent agent(host.agent());
    ASSERT_EQ(host.virsh({"create", host.write_xml(domain_xml({}))}).exit_code, 0);
    const CommandResult refused = agent.cli({"migrate", "vm", "--to", "127.0.0.1:1"});
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("is on a disk: set memory_backing_dir in "
                                       "/etc/libvirt/qemu.conf"));
    EXPECT_EQ(host.virsh_text({"domstate", "vm"}), "running");
    const CommandResult check = host.run({program("godwit"), "libvirt", "check", "vm"});
    EXPECT_EQ(check.exit_code, 3);
    EXPECT_THAT(check.out, HasSubstr("set memory_backing_dir"));
}

TEST(ALibvirtThatCannotBeReached, EndsTheAgentWithItsReasonAndTheHostIsAsItWas) {
    const bool was_there = std::filesystem::exists("/run/godwit/resident");
    for (const char* uri :
         {"libvirt:qemu+unix:///system?socket=/nowhere", "libvirt:nonsense:///x"}) {
        const CommandResult result =
            run_command({program("godwitd"), "--driver", uri, "--listen", "127.0.0.1:0",
                         "--state-dir", "/tmp/gw-no-libvirt"});
        EXPECT_EQ(result.exit_code, 3);
        EXPECT_THAT(result.err, HasSubstr("Cannot connect to libvirt at"));
    }
    run_command({"rm", "-rf", "/tmp/gw-no-libvirt"});
    EXPECT_EQ(run_command({program("godwitd"), "--driver", "xen"}).exit_code, 2);
    EXPECT_EQ(std::filesystem::exists("/run/godwit/resident"), was_there);
}

}  // namespace
}  // namespace godwit::testing
