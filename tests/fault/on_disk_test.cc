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

}  // namespace
}  // namespace godwit::testing
