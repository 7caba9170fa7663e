// What others do to a domain, or to its libvirt, in the middle of a migration.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cctype>

#include "tests/fault/lab.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr Duration kEndLimit = std::chrono::seconds(120);

class LibvirtInterplay : public LibvirtPair {
  protected:
    static void restart_libvirtd(LibvirtHost& host) {
        host.stop_libvirtd();
        host.start_libvirtd();
        ASSERT_EQ(host.problem(), "");
    }
    // The migration ends, and goes on undisturbed by what happened to it.
    void expect_done(BackgroundCommand& command) {
        ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
        EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
        EXPECT_EQ(json_of(command.result())["guest_at"], "destination");
        expect_only_at(host_b, *b, host_a, "shut off");
    }
    static void expect_changed(BackgroundCommand& command) {
        ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
        EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
        EXPECT_THAT(command.result().err, HasSubstr("was changed while it moved"));
        EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    }
    void finish_soon() {
        EXPECT_EQ(a->cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    }
};

TEST_F(LibvirtInterplay, LibvirtdIsRestartedAtTheSourceInARound) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_slow_migration();
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_a));
    finish_soon();
    expect_done(command);
}

TEST_F(LibvirtInterplay, LibvirtdIsRestartedAtTheDestinationInARound) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_slow_migration();
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_b));
    finish_soon();
    expect_done(command);
}

TEST_F(LibvirtInterplay, LibvirtdIsRestartedWhileItStartsTheDomainAndNothingOfItIsLeft) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_migration();
    ASSERT_TRUE(eventually(kEndLimit, [&] { return !host_b.memory_files().empty(); }));
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_b));
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    // It came through before libvirtd was ended, or it is as if it had never begun.
    if (command.result().exit_code == 0) return expect_only_at(host_b, *b, host_a, "shut off");
    EXPECT_EQ(json_of(command.result())["retry_safe"], true);
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, LibvirtdIsRestartedAtTheSourceInTheFreeze) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kFrozen, {"--freeze-limit", "60"}).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_a));
    let_go(*a);
    expect_done(command);
}

TEST_F(LibvirtInterplay, LibvirtdIsRestartedAtTheDestinationInTheFreeze) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kFrozen, {"--freeze-limit", "60"}).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_b));
    let_go(*a);
    expect_done(command);
}

TEST_F(LibvirtInterplay, LibvirtdIsRestartedAtTheDestinationThatHasLoadedTheDeviceState) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kLoaded, {"--freeze-limit", "60"}).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    ASSERT_NO_FATAL_FAILURE(restart_libvirtd(host_b));
    let_go(*a);
    expect_done(command);
}

TEST_F(LibvirtInterplay, LibvirtdIsGoneAtTheDestinationInTheFreezeAndTheGuestIsGivenBack) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kFrozen, {"--freeze-limit", "60"}).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    host_b.stop_libvirtd();
    let_go(*a);
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
    EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    host_b.start_libvirtd();
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, ADestinationThatIsDestroyedLeavesTheGuestAtTheSource) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    BackgroundCommand command = begin_slow_migration();
    ASSERT_EQ(host_b.virsh({"destroy", kVm}).exit_code, 0);
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
    expect_at_a_and_moves();
}

// To libvirt it is a paused domain as any other; the guest itself is the source's until COMMIT.
TEST_F(LibvirtInterplay, ADestinationThatIsResumedByVirshIsEndedBeforeThereAreTwoGuests) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_slow_migration();
    const CommandResult resumed = host_b.virsh({"resume", kVm});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    finish_soon();
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
    EXPECT_THAT(command.result().err, HasSubstr("virsh resume"));
    EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, GodwitGivesWayToVirshMigrateThatBeginsLater) {
    ASSERT_NO_FATAL_FAILURE(start());
    const LibvirtHost host_c{"hostc"};
    ASSERT_EQ(host_c.problem(), "");
    BackgroundCommand command = begin_slow_migration();
    const CommandResult moved = host_a.virsh(
        {"migrate", "--live", kVm, host_c.peer_uri(), "--migrateuri", host_c.migration_uri()});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_NE(command.result().exit_code, 0);
    EXPECT_THAT(command.result().err, HasSubstr("somebody else"));
    EXPECT_EQ(host_c.virsh_text({"domstate", kVm}), "running");
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_TRUE(eventually(kEndLimit, [&] {
        return host_b.virsh_text({"list", "--all", "--name"}).empty();
    }));
    TestAgent c(host_c.agent());
    expect_alive_and_well(c, kVm);
}

// What libvirt's own migration does not let happen. A guest that went on with the disk of before
// the snapshot would lack what it has written since.
TEST_F(LibvirtInterplay, ASnapshotInARoundEndsTheMigrationAndTheNextOneMovesWhatIsThereThen) {
    const std::string disk = make_guest_disk(*a, "16M");
    DomainOptions domain = domain_here();
    domain.append += " disk=on diskrate=500";
    domain.devices = fmt::format(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>"
        "<target dev='vda' bus='virtio'/>"
        "<address type='pci' domain='0' bus='0' slot='0x10' function='0'/></disk>",
        disk);
    ASSERT_NO_FATAL_FAILURE(start(domain));
    BackgroundCommand command = begin_slow_migration();
    const std::string overlay = a->state_dir() + "/overlay.qcow2";
    const CommandResult made = host_a.virsh({"snapshot-create-as", kVm, "--disk-only",
                                             "--no-metadata", "--diskspec", "vda,file=" + overlay});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    finish_soon();
    expect_changed(command);
    expect_at_a_and_moves();
    EXPECT_THAT(host_b.virsh_text({"domblklist", kVm}), HasSubstr(overlay));
}

TEST_F(LibvirtInterplay, ADeviceThatIsAttachedInARoundEndsTheMigration) {
    DomainOptions domain;
    domain.usb = "qemu-xhci";
    ASSERT_NO_FATAL_FAILURE(start(domain));
    BackgroundCommand command = begin_slow_migration();
    const CommandResult attached =
        host_a.virsh({"attach-device", kVm, host_a.write_xml("<input type='tablet' bus='usb'/>")});
    ASSERT_EQ(attached.exit_code, 0) << attached.err;
    finish_soon();
    expect_changed(command);
    expect_at_a_and_moves();
    EXPECT_THAT(host_b.virsh_text({"dumpxml", kVm}), HasSubstr("type='tablet'"));
}

TEST_F(LibvirtInterplay, VirshMigrateToTheSameHostIsRefusedWhileGodwitsDomainWaitsThere) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_slow_migration();
    const CommandResult refused = host_a.virsh(
        {"migrate", "--live", kVm, host_b.peer_uri(), "--migrateuri", host_b.migration_uri()});
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_THAT(refused.err, HasSubstr("already active"));
    finish_soon();
    expect_done(command);
}

TEST_F(LibvirtInterplay, ASecondMigrationIsRefusedByWhateverNameItCallsTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    const std::string uuid = host_a.virsh_text({"domuuid", kVm});
    BackgroundCommand command = begin_slow_migration();
    const CommandResult refused = migrate(*a, b->address(), uuid);
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("VM vm is in use by migration"));
    EXPECT_EQ(a->cli_json({"vm", "show", uuid})["spec"]["name"], kVm);
    EXPECT_EQ(a->vm_names(), std::vector<std::string>{kVm});
    finish_soon();
    expect_done(command);
}

TEST_F(LibvirtInterplay, AMigrationIsFoundByItsDomainsUuidHoweverThatIsWritten) {
    ASSERT_NO_FATAL_FAILURE(start());
    const std::string uuid = host_a.virsh_text({"domuuid", kVm});
    std::string shouted;
    for (const char c : uuid)
        if (c != '-') shouted += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    BackgroundCommand command = begin_slow_migration({"--id", kId});
    for (const std::string& name : {uuid, shouted}) {
        EXPECT_EQ(a->cli_json({"report", name})["migration_id"], kId) << name;
        EXPECT_EQ(a->cli({"limit", name, "--bandwidth", "3MB/s"}).exit_code, 0) << name;
        EXPECT_THAT(a->cli({"resume", name}).err, HasSubstr("nothing is interrupted")) << name;
    }
    EXPECT_EQ(a->cli({"cancel", shouted}).exit_code, 0);
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 5) << command.result().err;
    a->restart_with({});
    EXPECT_EQ(a->cli_json({"report", uuid})["outcome"], "cancelled");
    EXPECT_EQ(a->cli({"report", "6f6b1d2e-0000-4000-8000-0000000000ff"}).exit_code, 3);
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, GodwitIsRefusedByLibvirtsJobWhileVirshMigrateRuns) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    ASSERT_EQ(host_a.virsh({"migrate-setspeed", kVm, "4"}).exit_code, 0);
    BackgroundCommand other = host_a.virsh_in_background(
        {"migrate", "--live", kVm, host_b.peer_uri(), "--migrateuri", host_b.migration_uri()});
    ASSERT_TRUE(eventually(kEndLimit, [&] {
        return host_a.virsh({"domjobinfo", kVm}).out.find("Unbounded") != std::string::npos;
    }));
    const CommandResult refused = migrate(*a, b->address());
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("libvirt has a job on domain vm already"));
    EXPECT_THAT(host_a.virsh_text({"domjobinfo", kVm}), HasSubstr("Unbounded"));
    EXPECT_EQ(host_a.virsh({"domjobabort", kVm}).exit_code, 0);
    ASSERT_TRUE(other.wait(kEndLimit));
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, ASourceAgentThatIsKilledInTheFreezeLosesTheGuestToItsGuard) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kFrozen).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    a->end(SIGKILL);
    EXPECT_TRUE(eventually(kEndLimit, [&] {
        return host_a.virsh({"domstate", kVm}).out.rfind("running", 0) == 0;
    }));
    ASSERT_TRUE(command.wait(kEndLimit));
    a->restart_with({});
    expect_capability_off(host_a);
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, ACancelJustBeforeTheFreezeLeavesTheDomainToVirshMigrate) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kGuardStarted).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    EXPECT_EQ(a->cli({"cancel", kVm}).exit_code, 0);
    let_go(*a);
    ASSERT_TRUE(command.wait(kEndLimit));
    EXPECT_EQ(command.result().exit_code, 5) << command.result().err;
    expect_capability_off(host_a);
    expect_only_at(host_a, *a, host_b, "");
    const CommandResult moved = host_a.virsh(
        {"migrate", "--live", kVm, host_b.peer_uri(), "--migrateuri", host_b.migration_uri()});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

// QEMU would leave the memory out of what virsh saves; nobody can tell it meanwhile.
TEST_F(LibvirtInterplay, LibvirtdIsAwayJustBeforeTheFreezeAndTheDomainIsPutInOrderWhenItIsBack) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kGuardStarted).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    EXPECT_EQ(a->cli({"cancel", kVm}).exit_code, 0);
    host_a.kill_libvirtd();
    let_go(*a);
    EXPECT_TRUE(eventually(kEndLimit, [&] {
        return a->log().find("what a migration has set up is to be put back") != std::string::npos;
    })) << a->log();
    host_a.start_libvirtd();
    ASSERT_EQ(host_a.problem(), "");
    ASSERT_TRUE(command.wait(kEndLimit)) << command.result().err;
    EXPECT_EQ(command.result().exit_code, 5) << command.result().err;
    expect_capability_off(host_a);
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, ADestinationAgentThatIsKilledAfterCommitIsSucceeded) {
    ASSERT_NO_FATAL_FAILURE(start());
    b->restart_with(hold_at(step::kContNoted).flags);
    BackgroundCommand command = begin_migration();
    await_held(*b);
    b->end(SIGKILL);
    b->restart_with({});
    ASSERT_TRUE(command.wait(kEndLimit));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_only_at(host_b, *b, host_a, "shut off");
    expect_capability_off(host_b);
}

TEST_F(LibvirtInterplay, AnAgentEndsAlthoughLibvirtdHangs) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    BackgroundCommand command = begin_slow_migration();
    host_a.signal_libvirtd(SIGSTOP);
    a->end();  // fails the test when it takes too long
    host_a.signal_libvirtd(SIGCONT);
    ASSERT_TRUE(command.wait(kEndLimit));
    a->restart_with({});
    expect_at_a_and_moves();
}

TEST_F(LibvirtInterplay, ADestinationEndsAlthoughLibvirtdHangs) {
    ASSERT_NO_FATAL_FAILURE(start(restless_domain()));
    BackgroundCommand command = begin_slow_migration();
    host_b.signal_libvirtd(SIGSTOP);
    b->end();
    host_b.signal_libvirtd(SIGCONT);
    ASSERT_TRUE(command.wait(kEndLimit));
    EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    b->restart_with({});
    expect_at_a_and_moves();
}

// Nobody can reach QEMU until libvirtd goes on: the successor gives the guest back then.
TEST_F(LibvirtInterplay, AnAgentEndsInAFreezeAlthoughLibvirtdHangs) {
    ASSERT_NO_FATAL_FAILURE(start());
    a->restart_with(hold_at(step::kFrozen, {"--freeze-limit", "60"}).flags);
    BackgroundCommand command = begin_migration();
    await_held(*a);
    host_a.signal_libvirtd(SIGSTOP);
    a->signal(SIGTERM);
    let_go(*a);
    a->end();
    host_a.signal_libvirtd(SIGCONT);
    ASSERT_TRUE(command.wait(kEndLimit));
    a->restart_with({});
    EXPECT_TRUE(eventually(kEndLimit, [&] {
        return host_a.virsh({"domstate", kVm}).out.rfind("running", 0) == 0;
    }));
    expect_at_a_and_moves();
}

}  // namespace
}  // namespace godwit::testing
