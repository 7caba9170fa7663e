// What the destination's host has on its disk: as much as its successor needs where it loses its
// power, and before anybody relies on that.
#include <signal.h>

#include "tests/fault/drain_lab.h"
#include "tests/harness/agent_seams.h"

namespace godwit::testing {
namespace {

struct WithSeams {
    AgentSeams seams;  // older than the agents
};

class OnDisk : protected WithSeams, public DrainLab {
  protected:
    OnDisk() : DrainLab(AgentOptions{}, seams.options()) {}
    // As soon as the guest may be moved on.
    void expect_noted_once_it_is_free() {
        EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
            const nlohmann::json vm = b.vm(kVm);
            return vm.is_object() && vm["migration_id"] == "";
        })) << b.log();
        const auto record = seams.on_disk(kId);
        ASSERT_TRUE(record);
        EXPECT_EQ(record->phase(), v1::JOURNAL_PHASE_RESUMED);
        EXPECT_FALSE(record->arrival_owed());
    }
};

// LIVE, of which boot: a later one that finds nothing would know nothing of it.
TEST_F(OnDisk, IsThatTheMigrationIsHereBeforeCommitCanCome) {
    hold(b, step::kCommitCame);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    const auto record = seams.on_disk(kId);
    ASSERT_TRUE(record);
    EXPECT_EQ(record->phase(), v1::JOURNAL_PHASE_LIVE);
    EXPECT_FALSE(record->boot_id().empty());
    EXPECT_FALSE(record->vm_incarnation().empty());
    let_go(b);
    expect_drained_by(command);
}

// Else a host that loses its power later says of a guest that has moved on that it may be lost.
TEST_F(OnDisk, IsThatTheGuestCameBeforeItMayMoveOn) {
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    expect_end(command, kDone, "destination");
    expect_noted_once_it_is_free();
    expect_moves(b, a);
}

TEST_F(OnDisk, IsThatTheLastPageCameBeforeTheGuestMayMoveOn) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(command.wait(std::chrono::seconds(60))) << command.result().err;
    expect_noted_once_it_is_free();
    expect_drained_by(command);
    expect_moves(b, a);
}

TEST_F(OnDisk, IsThatTheGuestCameWhereARestartedAgentLetItRun) {
    hold(b, step::kContDone);
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    await_held(b);
    b.end(SIGKILL);
    bring_back(b);
    expect_end(command, kDone, "destination");
    expect_noted_once_it_is_free();
}

// --- a drain whose end fails ----------------------------------------------------------------

// The kernel has no memory for it, say.
class UnendedDrain : public OnDisk {
  protected:
    BackgroundCommand begin_unended() {
        seams.refuse_unregister(true);
        BackgroundCommand command = begin_postcopy();
        EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
            return b.log().find("its drain can't be ended yet") != std::string::npos;
        })) << b.log();
        return command;
    }
};

TEST_F(UnendedDrain, IsSaidAndEndsOnceItCan) {
    BackgroundCommand command = begin_unended();
    EXPECT_TRUE(GuestWatch(b.ram_file(kVm)).until_it_runs(std::chrono::seconds(30)));
    // The source, which comes again and again, passes it on.
    await_log("its drain can't be ended yet");
    EXPECT_EQ(report()["outcome"], "running");
    seams.refuse_unregister(false);
    expect_drained_by(command);
    expect_moves(b, a);
}

TEST_F(UnendedDrain, EndsWithoutItsSourceOnceItCan) {
    BackgroundCommand command = begin_unended();
    a.end(SIGKILL);
    expect_lost(command);
    seams.refuse_unregister(false);
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
        const nlohmann::json vm = b.vm(kVm);
        return vm.is_object() && vm["migration_id"] == "";
    })) << b.log();
    bring_back(a);
    expect_drained_in_the_end();
}

TEST_F(UnendedDrain, EndsWithItsGuest) {
    BackgroundCommand command = begin_unended();
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    expect_end(command, kDied, "none");
    expect_nothing_left(b, kVm);
}

}  // namespace
}  // namespace godwit::testing
