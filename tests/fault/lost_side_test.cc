// One side has lost what it had of a guest whose last pages follow it: its host's power, its state
// directory, a link to memory. A drain ends all the same, and nobody ends a guest that may be
// whole.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/handover/journal.h"
#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class LostSide : public DrainLab {
  protected:
    // b's agent and its guest die, as with their host.
    void end_b() {
        const std::vector<pid_t> qemus = b.qemu_pids();
        b.end(SIGKILL);
        ASSERT_EQ(qemus.size(), 1U);
        kill_process(qemus.front());
    }
    void lose_power_of_b() {
        ASSERT_NO_FATAL_FAILURE(end_b());
        // What was synced: that the migration was there.
        const std::string path = folder_of_b() + "/journal.json";
        std::ifstream file(path);
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        absl::StatusOr<v1::JournalRecord> record = decode_journal(text);
        ASSERT_TRUE(record.ok()) << record.status();
        ASSERT_FALSE(record->boot_id().empty());
        record->set_phase(v1::JOURNAL_PHASE_LIVE);
        record->set_boot_id("an earlier one");
        std::ofstream(path, std::ios::trunc) << *encode_journal(*record);
    }
    void lose_state_of_b() {
        ASSERT_NO_FATAL_FAILURE(end_b());
        std::filesystem::remove_all(folder_of_b());
    }
    void lose_links_of_a() {
        const std::vector<std::string> kept = kept_files(a);
        ASSERT_EQ(kept.size(), 1U);
        ASSERT_EQ(::unlink(kept.front().c_str()), 0);
    }
    // For its agent, and for now.
    void close_links_of_a() {
        const std::vector<std::string> kept = kept_files(a);
        ASSERT_EQ(kept.size(), 1U);
        std::filesystem::rename(kept.front(), kept.front() + ".away");
        std::filesystem::create_symlink(kept.front(), kept.front());
        closed_ = kept.front();
    }
    void open_links_of_a() { std::filesystem::rename(closed_ + ".away", closed_); }
    // a's agent dies once it has noted that the guest has left.
    void end_a_in_the_drain(BackgroundCommand& command) {
        ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
        ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return journal_says("DRAINING"); }));
        a.end(SIGKILL);
        expect_lost(command);
    }
    CommandResult say_lost(const std::vector<std::string>& confirm = {"--confirm", kVm}) {
        std::vector<std::string> words = {"resolve", kId, "--guest-at", "none"};
        words.insert(words.end(), confirm.begin(), confirm.end());
        return a.cli(words);
    }
    static void expect_refusal(const CommandResult& result, const std::string& words) {
        EXPECT_NE(result.exit_code, 0);
        EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
    }
    void expect_nowhere() {
        witness->expect_one();
        for (TestAgent* agent : {&a, &b}) {
            expect_nothing_left(*agent, kVm);
            EXPECT_TRUE(agent->qemu_pids().empty());
            EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
                return agent->ram_files_on_disk().empty();
            })) << ::testing::PrintToString(agent->ram_files_on_disk());
        }
    }
    void await_doubt() {
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
            const nlohmann::json now = report();
            return now.is_object() && now["outcome"] == "in-doubt";
        }));
    }

  private:
    [[nodiscard]] std::string folder_of_b() const { return b.state_dir() + "/migrations/" + kId; }
    std::string closed_;
};

const Ending kLostThere{.exit_code = 6,
                        .outcome = "guest-died",
                        .words = {"this host was restarted in the middle of it"}};
const Ending kSaidToBeLost{.exit_code = 6, .outcome = "guest-died", .words = {"an operator said"}};

// --- the destination's host lost its power --------------------------------------------------

TEST_F(LostSide, DestinationInTheDrainIsTheEndOfTheGuestAndNothingIsLeft) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    ASSERT_NO_FATAL_FAILURE(lose_power_of_b());
    bring_back(b);
    expect_end(command, kLostThere, "none");
    expect_nowhere();
}

TEST_F(LostSide, DestinationInTheDrainIsKnownToASuccessorOfTheSource) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_NO_FATAL_FAILURE(end_a_in_the_drain(command));
    ASSERT_NO_FATAL_FAILURE(lose_power_of_b());
    bring_back(b);
    bring_back(a);
    expect_report(kLostThere, "none");
    expect_nowhere();
}

// RESUMED was never heard: the source's copy may be the only one.
TEST_F(LostSide, DestinationInDoubtLeavesTheSourcesCopyToAnOperator) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    ASSERT_NO_FATAL_FAILURE(lose_power_of_b());
    bring_back(b);
    await_log("this host was restarted in the middle of it");
    EXPECT_EQ(report()["outcome"], "in-doubt");
    EXPECT_TRUE(GuestWatch(a.ram_file(kVm)).stands_still());
    EXPECT_FALSE(command.wait(std::chrono::milliseconds(500))) << command.result().err;
    EXPECT_EQ(a.cli({"resolve", kId, "--guest-at", "source", "--confirm", kVm}).exit_code, 0);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"an operator said"}},
               "source");
    expect_back_at_a();
    expect_moves(a, b);
}

// --- its state directory is gone ------------------------------------------------------------

TEST_F(LostSide, DestinationThatKnowsNothingIsAskedUntilAnOperatorSaysThatTheGuestIsLost) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    expect_refusal(say_lost(), "answers");
    ASSERT_NO_FATAL_FAILURE(lose_state_of_b());
    bring_back(b);
    await_log("The destination says INCOMING_STATE_UNKNOWN");
    for (const char* side : {"source", "destination"})
        expect_refusal(a.cli({"resolve", kId, "--guest-at", side, "--confirm", kVm}),
                       "say --guest-at none");
    expect_refusal(say_lost({}), std::string("--confirm ") + kVm);
    EXPECT_EQ(kept_files(a).size(), 1U) << "nothing was confirmed";
    const CommandResult said = say_lost();
    EXPECT_EQ(said.exit_code, 0) << said.err;
    expect_end(command, kSaidToBeLost, "none");
    expect_nowhere();
}

TEST_F(LostSide, DestinationThatNeverComesBackIsGivenUpInASuccessorOfTheSource) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_NO_FATAL_FAILURE(end_a_in_the_drain(command));
    ASSERT_NO_FATAL_FAILURE(lose_state_of_b());
    bring_back(a);
    await_log("trying again");
    EXPECT_EQ(report()["guest_at"], "destination");
    const CommandResult said = say_lost();
    EXPECT_EQ(said.exit_code, 0) << said.err;
    expect_report(kSaidToBeLost, "none");
    bring_back(b);
    expect_nowhere();
}

TEST_F(LostSide, DestinationInDoubtThatRanTheGuestTakesItAlongAsAnOperatorSays) {
    hold(b, step::kContDone);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    ASSERT_NO_FATAL_FAILURE(lose_state_of_b());
    await_doubt();
    const CommandResult said = say_lost();
    EXPECT_EQ(said.exit_code, 0) << said.err;
    expect_end(command, kSaidToBeLost, "none");
    bring_back(b);
    expect_nowhere();
}

TEST_F(LostSide, IsNoGuestThatHasNotLeft) {
    BackgroundCommand command = begin_slow_round();
    expect_refusal(say_lost(), "can be said to be nowhere");
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    expect_end(command, kCancelled, "source");
    expect_refusal(say_lost(), "can be said to be nowhere");
    expect_back_at_a();
}

// --- the link to the source's memory --------------------------------------------------------

// What QEMU has is as good, as long as that stands.
TEST_F(LostSide, LinkOfASourceWhoseQemuStandsIsMadeAgain) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    a.end(SIGKILL);
    expect_lost(command);
    ASSERT_EQ(a.qemu_pids().size(), 1U);
    ASSERT_NO_FATAL_FAILURE(lose_links_of_a());
    bring_back(a);
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] { return kept_files(a).size() == 1U; }))
        << a.log();
    let_go(b);
    expect_drained_in_the_end();
}

// QEMU alone has the memory for whoever comes after the agent that has it open.
TEST_F(LostSide, LinkOfASourceThatCantBeMadeAgainKeepsItsQemuUntilTheLastPage) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    a.end(SIGKILL);
    expect_lost(command);
    const std::vector<pid_t> qemus = a.qemu_pids();
    ASSERT_EQ(qemus.size(), 1U);
    const std::vector<std::string> kept = kept_files(a);
    ASSERT_NO_FATAL_FAILURE(lose_links_of_a());
    std::ofstream(kept.front()) << "somebody's";
    bring_back(a);
    let_go(b);
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return journal_says("DRAINING"); }));
    EXPECT_EQ(a.qemu_pids(), qemus);
    a.end(SIGKILL);
    bring_back(a);
    expect_drained_in_the_end();
}

// The last page has come, and only the end of it is not noted yet: nobody is to end that guest.
TEST_F(LostSide, LinkOfASourceThatIsNotNeededAnyMoreIsNoLoss) {
    hold(b, step::kLastPageCame);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    a.end(SIGKILL);
    expect_lost(command);
    ASSERT_NO_FATAL_FAILURE(lose_links_of_a());
    bring_back(a);
    await_log("0 pages are missing there");
    // Asked twice more and no wiser: two answers are what it takes to call pages lost.
    EXPECT_FALSE(eventually(std::chrono::seconds(3), [&] {
        return report()["outcome"] != "running";
    })) << report()["reason"];
    let_go(b);
    expect_report({.exit_code = 0, .outcome = "done", .words = {"the destination has the guest"}},
                  "destination");
    expect_only_at(b, a);
}

// --- the source's memory, which can't be opened for now ------------------------------------

TEST_F(LostSide, MemoryThatCantBeOpenedYetIsSentOnceItCanBe) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_NO_FATAL_FAILURE(end_a_in_the_drain(command));
    ASSERT_NO_FATAL_FAILURE(close_links_of_a());
    bring_back(a);
    await_log("pages are missing there");
    EXPECT_NE(report()["reason"].get<std::string>().find("once they can be opened"),
              std::string::npos)
        << report()["reason"];
    EXPECT_EQ(report()["outcome"], "running");
    open_links_of_a();
    expect_drained_in_the_end();
}

TEST_F(LostSide, MemoryThatCantBeOpenedYetIsLetGoWithAGuestThatHasDied) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_NO_FATAL_FAILURE(end_a_in_the_drain(command));
    ASSERT_NO_FATAL_FAILURE(close_links_of_a());
    bring_back(a);
    await_log("pages are missing there");
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    expect_report(kDied, "none");
    std::filesystem::remove(kept_files(a).at(0));  // what was put away
    expect_nowhere();
}

TEST_F(LostSide, MemoryThatCantBeOpenedYetKeepsNoOperatorFromEndingIt) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_NO_FATAL_FAILURE(end_a_in_the_drain(command));
    ASSERT_NO_FATAL_FAILURE(close_links_of_a());
    ASSERT_NO_FATAL_FAILURE(lose_state_of_b());
    bring_back(a);
    await_log("the guest has left");
    const CommandResult said = say_lost();
    EXPECT_EQ(said.exit_code, 0) << said.err;
    expect_report(kSaidToBeLost, "none");
    std::filesystem::remove(kept_files(a).at(0));
    bring_back(b);
    expect_nowhere();
}

}  // namespace
}  // namespace godwit::testing
