// What the destination's host has on its disk: as much as its successor needs where it loses its
// power, and before anybody relies on that.
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

}  // namespace
}  // namespace godwit::testing
