// A successor finds less than its predecessor knew: files that are gone, a word that can't be read,
// a journal that an earlier boot left.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "engine/handover/journal.h"
#include "tests/fault/drain_lab.h"
#include "tests/harness/full_disk.h"

namespace godwit::testing {
namespace {

class RecoveryTest : public DrainLab {
  protected:
    using DrainLab::DrainLab;
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

class DestinationWithADisk : public RecoveryTest {
  protected:
    DestinationWithADisk() : RecoveryTest(AgentOptions{}, {.disk_bytes = uint64_t{16} << 20}) {}
};

// The last that its journal says is that the guest may run. All of its pages are there, and the
// source, which knows that, has nothing more to bring.
TEST_F(DestinationWithADisk, ThatWasFullInTheDrainFinishesItWithoutTheSourceWhenItComesBack) {
    hold(b, step::kServing);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    {
        const FullDisk full(b.state_dir());
        let_go(b);
        ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
        EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
        b.end(SIGKILL);
    }
    bring_back(b);
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
        const nlohmann::json vm = b.vm(kVm);
        return vm.is_object() && vm["migration_id"] == "";
    })) << b.log();
    expect_drained(report());
    expect_moves(b, a);
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
    const CommandResult stopped = b.cli({"vm", "stop", kVm, "--force"});
    EXPECT_EQ(stopped.exit_code, 0) << stopped.err;
    EXPECT_TRUE(b.qemu_pids().empty());
    EXPECT_TRUE(b.ram_files_on_disk().empty());
}

TEST_F(RecoveryTest, GuestThatIsStoppedByForceInItsDrainIsReportedDead) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    EXPECT_NE(b.cli({"vm", "stop", kVm}).exit_code, 0) << "it was not asked to by force";
    const CommandResult stopped = b.cli({"vm", "stop", kVm, "--force"});
    EXPECT_EQ(stopped.exit_code, 0) << stopped.err;
    expect_end(command, kDied, "none");
    EXPECT_TRUE(kept_files(a).empty()) << ::testing::PrintToString(kept_files(a));
    EXPECT_TRUE(b.ram_files_on_disk().empty());
}

TEST_F(RecoveryTest, DrainThatCantBeTakenUpAtOnceIsTakenUpLater) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    b.end(SIGKILL);
    const std::string missing = b.state_dir() + "/migrations/" + kId + "/missing";
    ASSERT_EQ(std::rename(missing.c_str(), (missing + ".away").c_str()), 0);
    bring_back(b);
    await_log("says INCOMING_STATE_COMMITTED");
    ASSERT_EQ(std::rename((missing + ".away").c_str(), missing.c_str()), 0);
    expect_drained_by(command);
}

// A page of which nobody knows: the destination never had it, and it is not zero any more.
TEST_F(RecoveryTest, PageThatDiffersIsFoundInTheDrainAndTheSourcesMemoryIsKept) {
    BackgroundCommand command = begin_postcopy({"--verify"});
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    const std::vector<std::string> kept = kept_files(a);
    ASSERT_EQ(kept.size(), 1U);
    {
        const UniqueFd file(::open(kept.front().c_str(), O_WRONLY | O_CLOEXEC));
        const off_t hole = ::lseek(file.get(), 0, SEEK_HOLE);
        ASSERT_LT(hole, ::lseek(file.get(), 0, SEEK_END));
        ASSERT_EQ(::pwrite(file.get(), "?", 1, hole), 1);
    }
    ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
    EXPECT_EQ(command.result().exit_code, 4) << command.result().err;
    const nlohmann::json last = json_of(command.result());
    ASSERT_TRUE(last.is_object()) << command.result().out;
    EXPECT_EQ(last["outcome"], "failed");
    EXPECT_EQ(last["guest_at"], "destination");
    EXPECT_EQ(last["verify"]["mismatches"], 1);
    EXPECT_NE(last["reason"].get<std::string>().find(kept.front()), std::string::npos)
        << last["reason"];
    EXPECT_EQ(kept_files(a), kept);
    for (const std::string& file : kept) EXPECT_EQ(::unlink(file.c_str()), 0);
    expect_only_at(b, a);
}

TEST_F(RecoveryTest, WordThatCantBeReadLeavesTheAnswerToTheDestination) {
    hold(a, step::kCommitSent);
    BackgroundCommand command = begin_migration({"--strategy", "precopy"});
    await_held(a);
    await_commit_heard();
    a.end(SIGKILL);
    expect_lost(command);
    std::ofstream(a.state_dir() + "/migrations/" + kId + "/word", std::ios::trunc) << "?";
    bring_back(a);
    await_outcome("done");
    EXPECT_EQ(report()["guest_at"], "destination");
    expect_only_at(b, a);
}

// Its record can't be read, and its QEMU stands with the only copy.
TEST_F(RecoveryTest, GuestThatIsRefusedThereAndCouldNotBeAdoptedHereIsNotSaidToHaveDied) {
    hold(b, step::kCommitCame);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    const std::vector<pid_t> qemus = a.qemu_pids();
    ASSERT_EQ(qemus.size(), 1U);
    b.end(SIGKILL);
    a.end(SIGKILL);
    expect_lost(command);
    const std::string path = a.state_dir() + "/vms/" + kVm + "/vm.json";
    std::ifstream file(path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::ofstream(path, std::ios::trunc) << "?";
    bring_back(a);
    bring_back(b);
    expect_report({.exit_code = 4, .outcome = "failed", .words = {"could not be adopted"}},
                  "needs-operator");
    EXPECT_EQ(::kill(qemus.front(), 0), 0) << "it was ended";
    std::ofstream(path, std::ios::trunc) << text;
    bring_back(a);
    EXPECT_EQ(a.vm(kVm)["state"], "paused");
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
