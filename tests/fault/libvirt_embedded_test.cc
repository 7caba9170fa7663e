// libvirt embedded in the agents (qemu:///embed): it ends with its agent, and only QEMU's own
// monitor is left to the guard.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <fstream>
#include <sstream>

#include "tests/fault/lab.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_host.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr Duration kEmbeddedLimit = std::chrono::seconds(60);

class Embedded : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!host_a.problem().empty()) GTEST_SKIP() << host_a.problem();
        ASSERT_EQ(host_b.problem(), "");
        ::setenv("GODWIT_TEST_TRACKER", "uffd-wp", 1);  // NOLINT(concurrency-mt-unsafe): one thread
        // virsh has the root for itself before there is an agent.
        ASSERT_EQ(host_a.virsh({"define", host_a.write_xml(domain_xml({}))}).exit_code, 0);
        const CommandResult started = host_a.virsh({"start", kVm});
        ASSERT_EQ(started.exit_code, 0) << started.err;
        a.emplace(host_a.agent());
        b.emplace(host_b.agent());
        ASSERT_TRUE(eventually(kEmbeddedLimit, [&] {
            return testimony(*a, kVm).state == GuestState::kRunning;
        })) << a->log();
    }
    // Returns with the source's agent held at that step.
    BackgroundCommand begin_held(std::string_view step, const std::vector<std::string>& flags) {
        a->restart_with(hold_at(step, flags).flags);
        BackgroundCommand command = a->cli_in_background(
            {"migrate", kVm, "--to", b->address(), "--json", "--id", kId, "--tracker", "uffd-wp",
             "--strategy", "precopy", "--downtime-limit", "500ms"});
        await_held(*a);
        return command;
    }
    [[nodiscard]] std::string guard_log() const {
        const std::ifstream file(a->state_dir() + "/migrations/" + kId + "/guard.log");
        std::ostringstream text;
        text << file.rdbuf();
        return text.str();
    }
    // The agents end, and virsh shows the domain at a alone.
    void expect_at_a_for_virsh() {
        a->end();
        b->end();
        EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
        EXPECT_THAT(host_a.virsh_text({"dumpxml", "--inactive", kVm}), Not(HasSubstr("-incoming")));
        EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "");
        EXPECT_THAT(host_b.qemu_pids(), IsEmpty());
    }
    // The guard has given the guest back; the successor of the agent moves it.
    void expect_given_back(const GuestWatch& guest) {
        EXPECT_TRUE(eventually(kEmbeddedLimit, [&] { return word_at(*a) == Verdict::kAbort; }));
        EXPECT_TRUE(guest.until_it_runs(kEmbeddedLimit)) << "the guest does not run again";
        EXPECT_TRUE(eventually(kEmbeddedLimit, [&] { return guards_of(*a).empty(); }));
        a->restart_with({});
        EXPECT_TRUE(eventually(kEmbeddedLimit, [&] {
            return a->cli_json({"report", kId})["guest_at"] == "source";
        })) << a->log();
        EXPECT_TRUE(eventually(kEmbeddedLimit, [&] { return b->vm_names().empty(); }));
        move_guest(*a, *b, kVm);
        expect_alive_and_well(*b, kVm);
    }

    LibvirtHost host_a{"hosta", "/run/godwit-ram", LibvirtKind::kEmbedded};
    LibvirtHost host_b{"hostb", "/run/godwit-ram", LibvirtKind::kEmbedded};
    std::optional<TestAgent> a;
    std::optional<TestAgent> b;
};

TEST_F(Embedded, DomainsGoThereAndBack) {
    for (const auto& [from, to] : {std::pair{&*a, &*b}, std::pair{&*b, &*a}}) {
        move_guest(*from, *to, kVm);
        if (HasFailure()) return;
        expect_alive_and_well(*to, kVm);
    }
    move_guest(*a, *b, kVm, {"--strategy", "postcopy"});
    move_guest(*b, *a, kVm, {"--strategy", "hybrid"});
    if (HasFailure()) return;
    expect_alive_and_well(*a, kVm);
    expect_at_a_for_virsh();
}

class EmbeddedAgent : public Embedded, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(EmbeddedAgent, ThatIsKilledInTheFreezeLosesTheGuestToItsGuard) {
    BackgroundCommand command = begin_held(GetParam(), {"--freeze-limit", "60"});
    const GuestWatch guest(a->ram_file(kVm));
    a->end(SIGKILL);
    expect_given_back(guest);
}

TEST_P(EmbeddedAgent, ThatHangsInTheFreezeIsEndedByTheGuardThatTakesItsMonitor) {
    BackgroundCommand command = begin_held(GetParam(), {"--freeze-limit", "0.5"});
    const GuestWatch guest(a->ram_file(kVm));
    a->signal(SIGSTOP);
    expect_given_back(guest);
    EXPECT_THAT(guard_log(), HasSubstr("the agent hangs and has the only monitor: it is ended"));
}

INSTANTIATE_TEST_SUITE_P(Steps, EmbeddedAgent,
                         ::testing::Values(step::kGuardArmed, step::kFrozen,
                                           step::kDeviceStateLeaves, step::kLoaded),
                         step_name);

}  // namespace
}  // namespace godwit::testing
