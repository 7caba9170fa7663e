// Domains of libvirt go there and back between two libvirts, and virsh shows on both sides what an
// operator expects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_host.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kVm = "vm";

// Nothing is preloaded into libvirt's QEMUs.
void use_uffd_wp() {
    ::setenv("GODWIT_TEST_TRACKER", "uffd-wp", 1);  // NOLINT(concurrency-mt-unsafe): one thread
}

// The guest runs at `to`, where libvirt treats it as any domain; `from` has its definition alone.
void expect_moved(const LibvirtHost& from, const LibvirtHost& to) {
    EXPECT_EQ(from.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return from.memory_files().empty(); }))
        << ::testing::PrintToString(from.memory_files());
    EXPECT_THAT(from.virsh_text({"dumpxml", kVm}), Not(HasSubstr("-incoming")));
    EXPECT_THAT(from.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *yes"));
    EXPECT_THAT(from.qemu_pids(), IsEmpty());

    EXPECT_EQ(to.virsh_text({"domstate", "--reason", kVm}), "running (unpaused)");
    EXPECT_EQ(to.virsh_text({"list", "--name"}), kVm);
    EXPECT_THAT(to.virsh_text({"domjobinfo", kVm}), HasSubstr("None"));
    EXPECT_EQ(to.virsh({"suspend", kVm}).exit_code, 0);
    EXPECT_EQ(to.virsh_text({"domstate", kVm}), "paused");
    EXPECT_EQ(to.virsh({"resume", kVm}).exit_code, 0);
    const std::string capabilities =
        to.virsh_text({"qemu-monitor-command", kVm, R"({"execute":"query-migrate-capabilities"})"});
    EXPECT_THAT(capabilities, HasSubstr(R"({"state":false,"capability":"x-ignore-shared"})"));
}

// With its definition, by rounds that a loaded machine can end.
std::vector<std::string> for_good() {
    std::vector<std::string> flags = kPatient;
    flags.insert(flags.end(), {"--persistent", "--undefine-source"});
    return flags;
}

struct Case {
    const char* name;
    const char* strategy;
    DomainOptions domain;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

// Two hosts with a libvirt each, and an agent on either.
class Domain : public ::testing::Test {
  protected:
    explicit Domain(Emulation emulation = Emulation::kNeedsKvm)
        : host_a("hosta", LibvirtHost::kMemory, LibvirtKind::kDaemon, emulation),
          host_b("hostb", LibvirtHost::kMemory, LibvirtKind::kDaemon, emulation) {}
    void SetUp() override {
        use_uffd_wp();
        if (!host_a.problem().empty()) GTEST_SKIP() << host_a.problem();
        ASSERT_EQ(host_b.problem(), "");
        agent_a.emplace(host_a.agent());
        agent_b.emplace(host_b.agent());
    }
    void start() { ASSERT_NO_FATAL_FAILURE(start_domain(host_a, *agent_a, {})); }
    LibvirtHost host_a;
    LibvirtHost host_b;
    std::optional<TestAgent> agent_a;
    std::optional<TestAgent> agent_b;
};

class DomainsMove : public Domain, public ::testing::WithParamInterface<Case> {
  protected:
    DomainsMove()
        : Domain(GetParam().domain.type == "kvm" ? Emulation::kNeedsKvm : Emulation::kTakesTcg) {}
};

TEST_P(DomainsMove, ThereAndBackAndVirshShowsWhatIsExpected) {
    TestAgent& a = *agent_a;
    TestAgent& b = *agent_b;
    ASSERT_NO_FATAL_FAILURE(start_domain(host_a, a, GetParam().domain));
    std::vector<std::string> flags = {"--strategy", GetParam().strategy};
    if (flags[1] == "precopy") flags.insert(flags.end(), kPatient.begin(), kPatient.end());
    const json there = move_guest(a, b, kVm, flags);
    if (HasFailure()) return;
    expect_moved(host_a, host_b);
    expect_alive_and_well(b, kVm);
    move_guest(b, a, kVm, flags);
    if (HasFailure()) return;
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "") << "a transient domain stays";
    EXPECT_THAT(host_a.virsh_text({"dumpxml", "--inactive", kVm}), Not(HasSubstr("-incoming")));
    expect_alive_and_well(a, kVm);
    EXPECT_EQ(host_a.virsh({"destroy", kVm}).exit_code, 0);
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return a.vm_names().empty(); }));
}

INSTANTIATE_TEST_SUITE_P(
    Domains, DomainsMove,
    ::testing::Values(
        Case{"KvmPrecopy", "precopy", {}}, Case{"KvmHybrid", "hybrid", {}},
        Case{"KvmPostcopyFlatOut", "postcopy", {.append = "ws=64M rate=0 pattern=random"}},
        Case{"KvmStopAndCopy", "stop-and-copy", {}},
        Case{"KvmPrecopyTwoVcpus", "precopy", {.vcpus = 2, .append = "ws=32M rate=9000"}},
        Case{"TcgPrecopy", "precopy", {.type = "qemu", .append = "ws=16M rate=5000"}},
        Case{"TcgPostcopy", "postcopy", {.type = "qemu", .append = "ws=16M rate=0"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(Domain, ThatGodwitMovedIsMovedOnByVirsh) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    TestAgent& a = *agent_a;
    TestAgent& b = *agent_b;
    move_guest(a, b, kVm);
    if (HasFailure()) return;
    const CommandResult moved = host_b.virsh(
        {"migrate", "--live", kVm, host_a.peer_uri(), "--migrateuri", host_a.migration_uri()});
    ASSERT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    expect_alive_and_well(a, kVm);
    // And on by Godwit again.
    move_guest(a, b, kVm);
    expect_alive_and_well(b, kVm);
}

// libvirt makes QEMU's arguments of the live XML, where ours still are.
TEST_F(Domain, ThatGodwitMovedIsSavedAndRestoredByVirsh) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    move_guest(*agent_a, *agent_b, kVm);
    if (HasFailure()) return;
    const std::string file = agent_b->state_dir() + "/saved";
    const CommandResult saved = host_b.virsh({"save", kVm, file});
    ASSERT_EQ(saved.exit_code, 0) << saved.err;
    EXPECT_EQ(host_b.virsh_text({"list", "--name"}), "");
    const CommandResult restored = host_b.virsh({"restore", file});
    ASSERT_EQ(restored.exit_code, 0) << restored.err;
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
    expect_alive_and_well(*agent_b, kVm);
    move_guest(*agent_b, *agent_a, kVm);
    if (HasFailure()) return;
    expect_alive_and_well(*agent_a, kVm);
}

// What whoever follows libvirt's events hears, as of a migration by virsh: a guest that stops once
// and goes on once.
TEST_F(Domain, IsFollowedByLibvirtsEventsAndFoundByItsUuid) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    BackgroundCommand at_a = host_a.follow_lives();
    BackgroundCommand at_b = host_b.follow_lives();
    const std::string uuid = host_a.virsh_text({"domuuid", kVm});
    const CommandResult moved =
        migrate(*agent_a, agent_b->address(), uuid, {"--strategy", "hybrid"});
    ASSERT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_EQ(host_b.virsh_text({"domuuid", kVm}), uuid);
    expect_alive_and_well(*agent_b, kVm);
    const auto heard = [](BackgroundCommand& command) {
        command.signal(SIGINT);
        EXPECT_TRUE(command.wait(std::chrono::seconds(20)));
        return command.result().out;
    };
    const std::string here = heard(at_a);
    EXPECT_THAT(here, ContainsRegex("Suspended.*Stopped Destroyed")) << here;
    EXPECT_THAT(here, Not(HasSubstr("Resumed"))) << here;
    const std::string there = heard(at_b);
    EXPECT_THAT(there, ContainsRegex("Started.*Resumed")) << there;
    EXPECT_THAT(there, Not(HasSubstr("Stopped"))) << there;
    // And back, as one of a group.
    const CommandResult back =
        agent_b->cli({"migrate", "--vms", uuid, "--to", agent_a->address(), "--downtime-limit",
                      "500ms", "--schedule", "serial", "--json"});
    EXPECT_EQ(back.exit_code, 0) << back.err;
    EXPECT_EQ(json_of(back)["guests"][0]["vm"], kVm) << back.out;
    expect_alive_and_well(*agent_a, kVm);
}

TEST_F(Domain, TakesItsDefinitionAlongWhereThatIsAskedFor) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    TestAgent& a = *agent_a;
    TestAgent& b = *agent_b;
    move_guest(a, b, kVm, {"--persistent", "--undefine-source", "--strategy", "postcopy"});
    if (HasFailure()) return;
    EXPECT_EQ(host_a.virsh_text({"list", "--all", "--name"}), "");
    EXPECT_THAT(host_b.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *yes"));
    EXPECT_THAT(host_b.virsh_text({"dumpxml", "--inactive", kVm}), Not(HasSubstr("-incoming")));
    expect_alive_and_well(b, kVm);
    EXPECT_EQ(host_b.virsh({"destroy", kVm}).exit_code, 0);
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_EQ(host_b.virsh({"start", kVm}).exit_code, 0);
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
}

// Somebody must know it: a host that loses power then starts it anew.
TEST_F(Domain, KeepsItsDefinitionWhereItWasWhenTheOtherOneCannotDefineIt) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    TestAgent& a = *agent_a;
    TestAgent& b = *agent_b;
    // It is to run another QEMU from its next start on, which the other host does not have.
    ASSERT_EQ(host_a.run({"cp", "/usr/bin/qemu-system-x86_64", "/run/qemu-of-a"}).exit_code, 0);
    std::string xml = domain_xml({});
    const std::string devices = "<devices>";
    xml.insert(xml.find(devices) + devices.size(), "<emulator>/run/qemu-of-a</emulator>");
    const CommandResult defined = host_a.virsh({"define", host_a.write_xml(xml)});
    ASSERT_EQ(defined.exit_code, 0) << defined.err;
    const nlohmann::json report = move_guest(a, b, kVm, for_good());
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), HasSubstr("definition stays at the source"));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_THAT(host_b.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *no"));
    expect_alive_and_well(b, kVm);
}

// libvirt would forget the domain, were it told to define it.
TEST_F(Domain, IsNotDefinedWhereItsDefinitionCannotBeWritten) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    const CommandResult read_only = host_b.run({"mount", "-o", "remount,bind,ro", "/etc/libvirt"});
    ASSERT_EQ(read_only.exit_code, 0) << read_only.err;
    const json report = move_guest(*agent_a, *agent_b, kVm, for_good());
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), HasSubstr("definition stays at the source"));
    EXPECT_THAT(report["warnings"].dump(), HasSubstr("Cannot write to /etc/libvirt"));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
    EXPECT_THAT(host_b.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *no"));
    expect_alive_and_well(*agent_b, kVm);
    ASSERT_EQ(host_b.run({"mount", "-o", "remount,bind,rw", "/etc/libvirt"}).exit_code, 0);
    if (HasFailure()) return;
    move_guest(*agent_b, *agent_a, kVm);
}

// Nothing tells that beforehand, of a definition that can't be put in its place.
TEST_F(Domain, IsSaidToBeLostWhereLibvirtForgetsItAndIsFoundAgain) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    const std::string in_its_place = "/etc/libvirt/qemu/vm.xml";
    ASSERT_EQ(host_b.run({"mkdir", "-p", in_its_place}).exit_code, 0);
    const CommandResult moved =
        migrate(*agent_a, agent_b->address(), kVm,
                {"--persistent", "--undefine-source", "--strategy", "stop-and-copy"});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    const std::string warnings = json_of(moved)["warnings"].dump();
    EXPECT_THAT(warnings, HasSubstr("libvirt has lost sight of its domain"));
    EXPECT_THAT(warnings, HasSubstr("restart libvirtd, which finds it again"));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off") << "its definition stays";
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "") << "libvirt 9 forgets it";
    EXPECT_EQ(host_b.qemu_pids().size(), 1U) << "the guest runs";
    ASSERT_EQ(host_b.run({"rmdir", in_its_place}).exit_code, 0);
    host_b.stop_libvirtd();
    host_b.start_libvirtd();
    ASSERT_EQ(host_b.problem(), "");
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
    expect_alive_and_well(*agent_b, kVm);
    if (HasFailure()) return;
    move_guest(*agent_b, *agent_a, kVm);
}

TEST_F(Domain, ThatWouldBeStartedASecondTimeWhereItWasIsWarnedOf) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    const std::vector<std::string> check = {program("godwit"), "libvirt", "check", kVm};
    EXPECT_THAT(host_a.run(check).out, Not(HasSubstr("autostart")));
    ASSERT_EQ(host_a.virsh({"autostart", kVm}).exit_code, 0);
    EXPECT_THAT(host_a.run(check).out, HasSubstr("it has autostart"));
    json report = move_guest(*agent_a, *agent_b, kVm);
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), HasSubstr("virsh autostart --disable vm"));
    EXPECT_THAT(host_a.virsh_text({"dominfo", kVm}), ContainsRegex("Autostart: *enable"));
    report = move_guest(*agent_b, *agent_a, kVm);
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), Not(HasSubstr("autostart"))) << "it was transient there";
    report = move_guest(*agent_a, *agent_b, kVm, for_good());
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), Not(HasSubstr("autostart"))) << "nothing stays";
}

// They are with the source's libvirt alone.
TEST_F(Domain, KeepsItsDefinitionWhereItsSnapshotsAre) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    const std::string snapshot =
        "<domainsnapshot><name>before</name><state>shutoff</state>"
        "<creationTime>1700000000</creationTime>" +
        domain_xml({}) + "</domainsnapshot>";
    const CommandResult made = host_a.virsh(
        {"snapshot-create", kVm, host_a.write_xml(snapshot), "--redefine", "--current"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const json report = move_guest(*agent_a, *agent_b, kVm, for_good());
    if (HasFailure()) return;
    EXPECT_THAT(report["warnings"].dump(), HasSubstr("snapshots"));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_EQ(host_a.virsh_text({"snapshot-list", kVm, "--name"}), "before");
    EXPECT_THAT(host_b.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *yes"));
    expect_alive_and_well(*agent_b, kVm);
}

TEST_F(Domain, ThatIsPausedStaysPaused) {
    ASSERT_NO_FATAL_FAILURE(start());
    if (IsSkipped()) return;
    TestAgent& a = *agent_a;
    TestAgent& b = *agent_b;
    ASSERT_EQ(host_a.virsh({"suspend", kVm}).exit_code, 0);
    const CommandResult moved = migrate(a, b.address());
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "paused");
    EXPECT_EQ(host_b.virsh({"resume", kVm}).exit_code, 0);
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
    expect_alive_and_well(b, kVm);
}

}  // namespace
}  // namespace godwit::testing
