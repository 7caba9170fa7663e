// A domain that somebody destroys in the middle of its migration, at either side: the guest is
// where it is whole, or nowhere, and nothing of it stays elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fault/lab.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {
namespace {

using ::testing::IsEmpty;

constexpr Duration kDestroyLimit = std::chrono::seconds(120);

class LibvirtDestroy : public LibvirtPair {
  protected:
    // Held at that step, the agent's libvirt is told to destroy the domain.
    BackgroundCommand destroy_at(LibvirtHost& host, TestAgent& agent, std::string_view step,
                                 const std::vector<std::string>& flags = {}) {
        agent.restart_with(hold_at(step).flags);
        BackgroundCommand command = begin_migration(flags);
        await_held(agent);
        const CommandResult destroyed = host.virsh({"destroy", kVm});
        EXPECT_EQ(destroyed.exit_code, 0) << destroyed.err;
        let_go(agent);
        return command;
    }
    static void expect_destroyed_end(BackgroundCommand& command, int exit_code,
                                     const std::string& guest_at) {
        ASSERT_TRUE(command.wait(kDestroyLimit)) << command.result().err;
        EXPECT_EQ(command.result().exit_code, exit_code) << command.result().err;
        EXPECT_EQ(json_of(command.result())["guest_at"], guest_at) << command.result().out;
    }
    void expect_nowhere() {
        EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
        EXPECT_TRUE(eventually(kDestroyLimit, [&] {
            return host_b.virsh_text({"list", "--all", "--name"}).empty();
        }));
        for (const LibvirtHost* host : {&host_a, &host_b}) {
            EXPECT_TRUE(eventually(kDestroyLimit, [&] { return host->memory_files().empty(); }))
                << ::testing::PrintToString(host->memory_files());
            EXPECT_THAT(host->qemu_pids(), IsEmpty());
        }
        for (TestAgent* agent : {&*a, &*b}) {
            EXPECT_TRUE(eventually(kDestroyLimit, [&] { return agent->vm_names().empty(); }));
            EXPECT_TRUE(eventually(kDestroyLimit, [&] { return guards_of(*agent).empty(); }));
        }
    }
};

class DestroyedAtTheSource : public LibvirtDestroy,
                             public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestroyedAtTheSource, IsAGuestThatDiedAndCanBeStartedAnew) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = destroy_at(host_a, *a, GetParam());
    expect_destroyed_end(command, kDied.exit_code, "none");
    expect_nowhere();
    const CommandResult started = host_a.virsh({"start", kVm});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    EXPECT_EQ(a->vm(kVm)["migration_id"], "");
}

INSTANTIATE_TEST_SUITE_P(Steps, DestroyedAtTheSource,
                         ::testing::Values(step::kPrepared, step::kGuardArmed, step::kFrozen,
                                           step::kDeviceStateLeaves),
                         step_name);

// All of the guest is at the destination by then, and only there.
TEST_F(LibvirtDestroy, AtTheSourceWhenAllIsSentDoesNotTakeTheGuestAlong) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = destroy_at(host_a, *a, step::kVerified);
    expect_destroyed_end(command, kDone.exit_code, "destination");
    expect_only_at(host_b, *b, host_a, "shut off");
}

// libvirt removes its memory directory, and the last pages are still to be sent from there.
TEST_F(LibvirtDestroy, AtTheSourceWhenTheGuestHasLeftDoesNotTakeItsLastPagesAlong) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command =
        destroy_at(host_a, *a, step::kResumedSeen, {"--strategy", "postcopy"});
    expect_destroyed_end(command, kDone.exit_code, "destination");
    expect_only_at(host_b, *b, host_a, "shut off");
}

class DestroyedAtTheDestination : public LibvirtDestroy,
                                  public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestroyedAtTheDestination, LeavesTheGuestRunningAtTheSource) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = destroy_at(host_b, *b, GetParam());
    expect_destroyed_end(command, kFailed.exit_code, "source");
    expect_capability_off(host_a);
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, DestroyedAtTheDestination,
                         ::testing::Values(step::kIncoming, step::kLoadDone, step::kContNoted),
                         step_name);

TEST_F(LibvirtDestroy, AtTheDestinationWhileItsLastPagesComeEndsTheGuest) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command =
        destroy_at(host_b, *b, step::kResumedSent, {"--strategy", "postcopy"});
    expect_destroyed_end(command, kDied.exit_code, "none");
    expect_nowhere();
}

}  // namespace
}  // namespace godwit::testing
