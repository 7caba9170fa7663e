// A libvirtd that hangs where the guest stands still, and goes on later or is started anew: the
// guest is nowhere lost, the agents say what they wait for, and end what can be ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/fault/lab.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

constexpr Duration kUnhungLimit = std::chrono::seconds(120);

enum class Cure { kGoesOn, kIsRestarted };

class LibvirtHangs : public LibvirtPair {
  protected:
    // Returns with the agent of that side held at that step, and the migration begun.
    BackgroundCommand begin_held(TestAgent& agent, std::string_view step,
                                 std::vector<std::string> flags = {}) {
        agent.restart_with(hold_at(step).flags);
        flags.insert(flags.end(), {"--id", kId});
        BackgroundCommand command = begin_migration(flags);
        await_held(agent);
        return command;
    }
    static void await_words(TestAgent& agent, const std::string& words) {
        EXPECT_TRUE(
            eventually(kUnhungLimit, [&] { return agent.log().find(words) != std::string::npos; }))
            << "nothing says \"" << words << "\" in " << agent.log();
    }
    static void cure(LibvirtHost& host, Cure cure) {
        if (cure == Cure::kGoesOn) return host.signal_libvirtd(SIGCONT);
        host.signal_libvirtd(SIGKILL);
        host.stop_libvirtd();
        host.start_libvirtd();
        ASSERT_EQ(host.problem(), "");
    }
    static void expect_end_at(BackgroundCommand& command, const std::string& guest_at) {
        ASSERT_TRUE(command.wait(kUnhungLimit)) << command.result().err;
        EXPECT_EQ(command.result().exit_code, guest_at == "source" ? 1 : 0) << command.result().err;
        const nlohmann::json report = json_of(command.result());
        EXPECT_EQ(report["guest_at"], guest_at) << report.dump();
        EXPECT_EQ(report["retry_safe"], guest_at == "source") << report.dump();
    }
    static void expect_waits(BackgroundCommand& command) {
        EXPECT_FALSE(command.wait(Duration::zero())) << command.result().out;
    }
};

struct Hang {
    const char* name;
    std::string_view step;
    Cure cure;
};
void PrintTo(const Hang& hang, std::ostream* out) { *out << hang.name; }
std::string hang_name(const ::testing::TestParamInfo<Hang>& info) { return info.param.name; }

class AtTheSourceBeforeCommit : public LibvirtHangs, public ::testing::WithParamInterface<Hang> {};

// What the agent had ordered when it gave up, libvirtd may carry out when it goes on.
TEST_P(AtTheSourceBeforeCommit, AbortsSaysSoAndGivesTheGuestBackOnceItCan) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*a, GetParam().step);
    const GuestWatch guest(a->ram_file(kVm));
    host_a.signal_libvirtd(SIGSTOP);
    let_go(*a);
    await_words(*a, "the guest is at the source and is not seen to run yet");
    await_words(*a, "does libvirtd hang?");
    EXPECT_EQ(word_at(*a), Verdict::kAbort);
    expect_waits(command);
    ASSERT_NO_FATAL_FAILURE(cure(host_a, GetParam().cure));
    expect_end_at(command, "source");
    EXPECT_TRUE(guest.until_it_runs(kUnhungLimit));
    expect_capability_off(host_a);
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(
    Hangs, AtTheSourceBeforeCommit,
    ::testing::Values(Hang{"WhenTheGuestIsToStop", step::kGuardArmed, Cure::kGoesOn},
                      Hang{"WhenTheGuestIsToStopAndIsRestarted", step::kGuardArmed,
                           Cure::kIsRestarted},
                      Hang{"InTheFreeze", step::kFrozen, Cure::kGoesOn},
                      Hang{"InTheFreezeAndIsRestarted", step::kFrozen, Cure::kIsRestarted}),
    hang_name);

// The guest waits for nobody at the source then.
class AtTheSourceThatNeedsItNoMore : public LibvirtHangs,
                                     public ::testing::WithParamInterface<std::string_view> {};

TEST_P(AtTheSourceThatNeedsItNoMore, HoldsNothingUp) {
    ASSERT_NO_FATAL_FAILURE(start());
    const bool drains = GetParam() == step::kDraining;
    BackgroundCommand command =
        begin_held(*a, GetParam(), {"--strategy", drains ? "postcopy" : "stop-and-copy"});
    host_a.signal_libvirtd(SIGSTOP);
    let_go(*a);
    expect_end_at(command, "destination");
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "running");
    host_a.signal_libvirtd(SIGCONT);
    expect_only_at(host_b, *b, host_a, "shut off");
}

INSTANTIATE_TEST_SUITE_P(Hangs, AtTheSourceThatNeedsItNoMore,
                         ::testing::Values(step::kLoaded, step::kDraining), step_name);

TEST_F(LibvirtHangs, AtTheDestinationFromTheStartAndTheGuestRunsOn) {
    ASSERT_NO_FATAL_FAILURE(start());
    host_b.signal_libvirtd(SIGSTOP);
    const CommandResult refused = migrate(*a, b->address());
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_THAT(refused.err, HasSubstr("does libvirtd hang?"));
    EXPECT_EQ(json_of(refused)["guest_at"], "source");
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    host_b.signal_libvirtd(SIGCONT);
    expect_at_a_and_moves();
}

// Nothing says that the device state was loaded.
TEST_F(LibvirtHangs, AtTheDestinationInTheFreezeAndTheGuestIsGivenBackMeanwhile) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*a, step::kFrozen);
    const GuestWatch guest(a->ram_file(kVm));
    host_b.signal_libvirtd(SIGSTOP);
    let_go(*a);
    expect_end_at(command, "source");
    EXPECT_TRUE(guest.until_it_runs(kUnhungLimit));
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "running");
    host_b.signal_libvirtd(SIGCONT);
    expect_at_a_and_moves();
}

class AtTheDestinationAfterCommit : public LibvirtHangs,
                                    public ::testing::WithParamInterface<Hang> {};

// QEMU may have heard that it is to run the guest: nobody else may, until it says.
TEST_P(AtTheDestinationAfterCommit, IsWaitedForAndBothSidesSaySo) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*a, step::kLoaded);
    host_b.signal_libvirtd(SIGSTOP);
    let_go(*a);
    await_words(*b, "resuming after COMMIT");
    await_words(*a, "the guest is to run here, and its hypervisor does not answer");
    await_words(*a, "does libvirtd hang?");
    expect_waits(command);
    ASSERT_NO_FATAL_FAILURE(cure(host_b, GetParam().cure));
    expect_end_at(command, "destination");
    expect_only_at(host_b, *b, host_a, "shut off");
}

INSTANTIATE_TEST_SUITE_P(Hangs, AtTheDestinationAfterCommit,
                         ::testing::Values(Hang{"AndGoesOn", step::kLoaded, Cure::kGoesOn},
                                           Hang{"AndIsRestarted", step::kLoaded,
                                                Cure::kIsRestarted}),
                         hang_name);

// All pages are here, and what a migration had set up is still to be put back.
TEST_F(LibvirtHangs, AtTheDestinationAfterTheLastPageAndOnlyTheDomainIsHeldMeanwhile) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*b, step::kLastPageCame, {"--strategy", "postcopy"});
    const GuestWatch guest(b->ram_file(kVm));
    host_b.signal_libvirtd(SIGSTOP);
    let_go(*b);
    EXPECT_TRUE(guest.until_it_runs(kUnhungLimit));
    await_words(*b, "is here, but not as it was there");
    host_b.signal_libvirtd(SIGCONT);
    expect_end_at(command, "destination");
    expect_capability_off(host_b);
    // The source may have ended before the destination has put everything back.
    EXPECT_TRUE(eventually(kUnhungLimit, [&] { return b->vm(kVm)["migration_id"] == ""; }));
    expect_only_at(host_b, *b, host_a, "shut off");
}

}  // namespace
}  // namespace godwit::testing
