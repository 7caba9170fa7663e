#include "engine/handover/decision_word.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "tests/unit/engine/handover/scratch_directory.h"

namespace godwit {
namespace {

using testing::ScratchDirectory;

DecisionWord open_word(const std::string& path) {
    auto word = DecisionWord::open(path);
    EXPECT_TRUE(word.ok()) << word.status();
    return *std::move(word);
}

TEST(DecisionWord, IsOpenWhenItIsNew) {
    const ScratchDirectory scratch;
    EXPECT_EQ(open_word(scratch.path() + "/word").read(), Verdict::kOpen);
}

TEST(DecisionWord, IsDecidedOnceAndForAll) {
    const ScratchDirectory scratch;
    DecisionWord word = open_word(scratch.path() + "/word");
    EXPECT_TRUE(word.decide(Verdict::kAbort));
    EXPECT_FALSE(word.decide(Verdict::kCommit));
    EXPECT_TRUE(word.decide(Verdict::kAbort)) << "it says so already";
    EXPECT_FALSE(word.decide_first(Verdict::kAbort)) << "and somebody else said it";
    EXPECT_EQ(word.read(), Verdict::kAbort);
}

TEST(DecisionWord, OutlivesWhoeverDecidedIt) {
    const ScratchDirectory scratch;
    const std::string path = scratch.path() + "/word";
    EXPECT_TRUE(open_word(path).decide(Verdict::kCommit));
    DecisionWord again = open_word(path);
    EXPECT_EQ(again.read(), Verdict::kCommit);
    EXPECT_FALSE(again.decide(Verdict::kAbort));
}

TEST(DecisionWord, IsFoundOnlyWhereSomebodyMadeIt) {
    const ScratchDirectory scratch;
    const std::string path = scratch.path() + "/word";
    EXPECT_TRUE(absl::IsNotFound(DecisionWord::find(path).status()));
    open_word(path).decide(Verdict::kCommit);
    const auto found = DecisionWord::find(path);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->read(), Verdict::kCommit);
}

TEST(DecisionWord, ThatIsDamagedIsNoWord) {
    const ScratchDirectory scratch;
    const std::string path = scratch.path() + "/word";
    for (const std::string bytes : {"", "x", "what", "12345"}) {
        std::ofstream(path, std::ios::trunc) << bytes;
        EXPECT_TRUE(absl::IsDataLoss(DecisionWord::find(path).status())) << bytes;
    }
}

// A store into a hole of a full file system is a SIGBUS, at the worst moment.
TEST(DecisionWord, IsNotOpenedWithoutABlockForIt) {
    const ScratchDirectory scratch;
    if (::mount("none", scratch.path().c_str(), "tmpfs", 0, "size=8k") != 0)
        GTEST_SKIP() << "needs root to mount a small file system";
    std::ofstream(scratch.path() + "/fill") << std::string(1 << 20, 'x');
    const auto word = DecisionWord::open(scratch.path() + "/word");
    EXPECT_TRUE(absl::IsResourceExhausted(word.status())) << word.status();
    ::umount(scratch.path().c_str());
}

TEST(DecisionWord, SaysWhatCouldNotBeOpened) {
    const auto word = DecisionWord::open("/nonexistent/word");
    ASSERT_FALSE(word.ok());
    EXPECT_NE(word.status().message().find("/nonexistent/word"), std::string_view::npos);
}

// A child that waits for the pipe to close, then decides; its exit status is whether it did.
pid_t fork_decider(const std::string& path, Verdict verdict, const std::array<int, 2>& start) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::close(start[1]);
    char byte = 0;
    (void)!::read(start[0], &byte, 1);
    auto word = DecisionWord::open(path);
    ::_exit(word.ok() && word->decide(verdict) ? 1 : 0);
}

TEST(DecisionWord, IsDecidedByExactlyOneOfTwoProcesses) {
    const ScratchDirectory scratch;
    std::array<int, 3> winners{};
    for (int i = 0; i < 50; ++i) {
        const std::string path = scratch.path() + "/word" + std::to_string(i);
        std::array<int, 2> start{};
        ASSERT_EQ(::pipe(start.data()), 0);
        const std::array pids{fork_decider(path, Verdict::kCommit, start),
                              fork_decider(path, Verdict::kAbort, start)};
        ::close(start[0]);
        ::close(start[1]);
        std::array<bool, 2> won{};
        for (size_t k = 0; k < pids.size(); ++k) {
            int status = 0;
            ASSERT_EQ(::waitpid(pids[k], &status, 0), pids[k]);
            won[k] = WIFEXITED(status) && WEXITSTATUS(status) == 1;
        }
        EXPECT_NE(won[0], won[1]) << "both or neither";
        EXPECT_EQ(open_word(path).read(), won[0] ? Verdict::kCommit : Verdict::kAbort);
        ++winners[won[0] ? 1 : 2];
    }
    EXPECT_EQ(winners[1] + winners[2], 50);
}

}  // namespace
}  // namespace godwit
