// A successor finds less than its predecessor knew: files that are gone, a word that can't be read,
// a journal that an earlier boot left.
#include <unistd.h>

#include <fstream>

#include "engine/handover/journal.h"
#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class RecoveryTest : public DrainLab {
  protected:
    void await_outcome(const std::string& outcome) {
        nlohmann::json last;
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
            last = report();
            return last.is_object() && last["outcome"] == outcome;
        })) << last.dump(2);
    }
    static std::string journal_path(const TestAgent& agent) {
        return agent.state_dir() + "/migrations/" + kId + "/journal.json";
    }
};

TEST_F(RecoveryTest, MemoryThatWasLetGoBeforeTheEndWasWrittenIsNoLoss) {
    hold(a, step::kConcluded);
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    EXPECT_TRUE(kept_files(a).empty()) << ::testing::PrintToString(kept_files(a));
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);
    await_outcome("done");
    EXPECT_EQ(report()["guest_at"], "destination");
    expect_only_at(b, a);
}

TEST_F(RecoveryTest, PagesThatAreLostWithTheSourcesMemoryAreSaidAndTheGuestIsNotKilled) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    a.end(SIGKILL);
    expect_lost(command);
    for (const std::string& file : kept_files(a)) ASSERT_EQ(::unlink(file.c_str()), 0);
    bring_back(a);
    await_outcome("failed");
    EXPECT_EQ(report()["guest_at"], "destination");
    EXPECT_EQ(a.cli({"watch", kId}).exit_code, 4);
    EXPECT_NE(report()["reason"].get<std::string>().find("pages that were lost"), std::string::npos)
        << report()["reason"];
    EXPECT_EQ(b.qemu_pids().size(), 1U);
}

TEST_F(RecoveryTest, WordThatCantBeReadLeavesTheAnswerToTheDestination) {
    hold(a, step::kCommitSent);
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    await_held(a);
    a.end(SIGKILL);
    expect_lost(command);
    std::ofstream(a.state_dir() + "/migrations/" + kId + "/word", std::ios::trunc) << "?";
    bring_back(a);
    await_outcome("done");
    EXPECT_EQ(report()["guest_at"], "destination");
    expect_only_at(b, a);
}

TEST_F(RecoveryTest, GuestThatWasGivenBackStaysEvenIfTheDestinationForgot) {
    hold(a, step::kConcluded);
    hold(b, step::kCommitCame);
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    await_held(b);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    let_go(b);
    await_held(a);
    EXPECT_TRUE(GuestWatch(a.ram_file(kVm)).until_it_runs(std::chrono::seconds(3)));
    a.end(SIGKILL);
    b.end(SIGKILL);
    expect_lost(command);
    ASSERT_EQ(::unlink(journal_path(b).c_str()), 0);
    bring_back(b);
    bring_back(a);
    await_outcome("failed");
    EXPECT_EQ(report()["guest_at"], "source");
    expect_back_at_a();
    expect_moves(a, b);
}

// The guest may have run there: CONT was in the page cache only.
TEST_F(RecoveryTest, DestinationOfAnEarlierBootGivesNoAnswerAndTheStaleCopyNeverRuns) {
    hold(b, step::kCommitCame);
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    await_held(b);
    b.end(SIGKILL);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    std::ifstream file(journal_path(b));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    absl::StatusOr<v1::JournalRecord> record = decode_journal(text);
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_EQ(record->phase(), v1::JOURNAL_PHASE_LIVE);
    EXPECT_FALSE(record->boot_id().empty());
    record->set_boot_id("an earlier one");
    std::ofstream(journal_path(b), std::ios::trunc) << *encode_journal(*record);
    bring_back(b);
    await_log("in doubt; " + b.address());
    EXPECT_TRUE(GuestWatch(a.ram_file(kVm)).stands_still());
    EXPECT_EQ(report()["outcome"], "in-doubt");
    EXPECT_EQ(report()["guest_at"], "needs-operator");
    EXPECT_FALSE(command.wait(std::chrono::milliseconds(500))) << command.result().err;
}

}  // namespace
}  // namespace godwit::testing
