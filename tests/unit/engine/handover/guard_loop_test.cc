// The guard's own side, with a guest that only counts how often it was rolled back.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <future>
#include <mutex>
#include <vector>

#include "engine/base/wait.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/guard.h"
#include "engine/handover/guard_protocol.h"
#include "tests/unit/engine/handover/scratch_directory.h"

namespace godwit {
namespace {

using testing::ScratchDirectory;

constexpr Duration kLimit = std::chrono::seconds(20);

class FakeRescue final : public GuestRescue {
  public:
    absl::Status roll_back(bool run, Duration) override {
        const std::lock_guard lock(mutex_);
        calls_.push_back(run);
        return answer_;
    }
    absl::Status take_over(Duration) override {
        const std::lock_guard lock(mutex_);
        calls_before_take_over_.push_back(calls_.size());
        return answer_;
    }
    // How many rollbacks had been before each.
    std::vector<size_t> take_overs() {
        const std::lock_guard lock(mutex_);
        return calls_before_take_over_;
    }
    void fail() { answer_ = absl::DeadlineExceededError("QMP hangs"); }
    std::vector<bool> calls() {
        const std::lock_guard lock(mutex_);
        return calls_;
    }

  private:
    std::mutex mutex_;
    std::vector<bool> calls_;
    std::vector<size_t> calls_before_take_over_;
    absl::Status answer_;
};

// A guard in a thread of its own, and the agent's end of its socket.
class Guard : public ::testing::Test {
  protected:
    void SetUp() override {
        std::array<int, 2> pair{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
        agent_.reset(pair[0]);
        guard_.reset(pair[1]);
    }
    void TearDown() override { agent_.reset(); }

    void start(bool run = true) {
        exit_ = std::async(std::launch::async,
                           [this, run] { return run_guard(guard_.get(), path_, run, rescue_); });
        ASSERT_EQ(receive(), GuardMessageKind::kReady);
    }
    void send(const GuardMessage& message) const {
        ASSERT_EQ(::send(agent_.get(), &message, sizeof message, 0),
                  static_cast<ssize_t>(sizeof message));
    }
    [[nodiscard]] GuardMessageKind receive() const {
        GuardMessage message{};
        EXPECT_EQ(::recv(agent_.get(), &message, sizeof message, 0),
                  static_cast<ssize_t>(sizeof message));
        return message.kind;
    }
    void arm(Duration limit) {
        const auto deadline = (Clock::system().now() + limit).time_since_epoch();
        send({.kind = GuardMessageKind::kArm,
              .deadline_ns =
                  std::chrono::duration_cast<std::chrono::nanoseconds>(deadline).count()});
        ASSERT_EQ(receive(), GuardMessageKind::kArmed);
    }
    void agent_dies() { agent_.reset(); }
    int exit_code() {
        if (exit_.wait_for(kLimit) != std::future_status::ready) {
            ADD_FAILURE() << "the guard does not end";
            agent_.reset();
        }
        return exit_.get();
    }
    // Waits until the word says so, then some time more for what must not happen.
    void await_word(Verdict verdict) {
        const MonotonicTime deadline = Clock::system().now() + kLimit;
        while (word().read() != verdict && Clock::system().now() < deadline) pause();
        EXPECT_EQ(word().read(), verdict);
    }
    static void pause() {
        wait_readable(-1, -1, Clock::system().now() + std::chrono::milliseconds(5)).IgnoreError();
    }
    DecisionWord word() { return DecisionWord::open(path_).value(); }

    // What await_guard_begin() makes of what was sent.
    std::optional<bool> begin() { return await_guard_begin(guard_.get()); }

    FakeRescue rescue_;

  private:
    const ScratchDirectory scratch_;
    const std::string path_ = scratch_.path() + "/word";
    UniqueFd agent_;
    UniqueFd guard_;
    std::future<int> exit_;
};

const std::vector<bool> kNone;
// Twice: the agent's last command may be carried out after the first.
const std::vector<bool> kRunTwice{true, true};

TEST_F(Guard, ConnectsToTheGuestOnceTheAgentWantsIt) {
    send({.kind = GuardMessageKind::kBegin, .run = 1});
    send({.kind = GuardMessageKind::kBegin, .run = 0});
    EXPECT_EQ(begin(), true);
    EXPECT_EQ(begin(), false);
}

TEST_F(Guard, NeedsNoGuestWhereTheAgentNeedsNoGuard) {
    send({.kind = GuardMessageKind::kDismiss});
    EXPECT_EQ(begin(), std::nullopt);
    agent_dies();
    EXPECT_EQ(begin(), std::nullopt);
}

TEST_F(Guard, DoesNothingWhenTheAgentDiesBeforeItArmed) {
    start();
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kNone);
    EXPECT_EQ(word().read(), Verdict::kOpen);
}

TEST_F(Guard, DoesNothingWhenItIsDismissed) {
    start();
    arm(kLimit);
    send({.kind = GuardMessageKind::kDismiss});
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kNone);
    EXPECT_EQ(word().read(), Verdict::kOpen);
}

TEST_F(Guard, GivesTheGuestBackWhenTheAgentDiesInTheFreeze) {
    start();
    arm(kLimit);
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kRunTwice);
    EXPECT_TRUE(rescue_.take_overs().empty()) << "there is nobody to take it from";
    EXPECT_EQ(word().read(), Verdict::kAbort);
}

TEST_F(Guard, LeavesAGuestPausedThatWasPausedBefore) {
    start(/*run=*/false);
    arm(kLimit);
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), (std::vector<bool>{false, false}));
}

TEST_F(Guard, GivesTheGuestBackWhenTheDeadlinePassesAndWaitsForTheAgent) {
    start();
    arm(std::chrono::milliseconds(20));
    await_word(Verdict::kAbort);
    send({.kind = GuardMessageKind::kDismiss});
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kRunTwice);
    EXPECT_EQ(rescue_.take_overs(), std::vector<size_t>{0}) << "before the first rollback, once";
}

TEST_F(Guard, FinishesForAnAgentThatDiesAfterTheDeadlineInItsOwnRollback) {
    start();
    arm(std::chrono::milliseconds(20));
    await_word(Verdict::kAbort);
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), (std::vector<bool>{true, true, true, true}));
}

TEST_F(Guard, FinishesAnAbortOfAnAgentThatDies) {
    start();
    arm(kLimit);
    ASSERT_TRUE(word().decide(Verdict::kAbort));
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kRunTwice);
}

TEST_F(Guard, FinishesAnAbortOfAnAgentThatHangsPastTheDeadline) {
    start();
    ASSERT_TRUE(word().decide(Verdict::kAbort));
    arm(std::chrono::milliseconds(1));
    const MonotonicTime limit = Clock::system().now() + kLimit;
    while (rescue_.calls().size() < 2 && Clock::system().now() < limit) pause();
    send({.kind = GuardMessageKind::kDismiss});
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kRunTwice);
    EXPECT_TRUE(rescue_.take_overs().empty()) << "it is at work, and is not ended";
}

TEST_F(Guard, LeavesACommittedGuestAloneWhenTheAgentDies) {
    start();
    arm(kLimit);
    ASSERT_TRUE(word().decide(Verdict::kCommit));
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kNone);
    EXPECT_EQ(word().read(), Verdict::kCommit);
}

TEST_F(Guard, LeavesACommittedGuestAloneWhenTheDeadlinePasses) {
    start();
    ASSERT_TRUE(word().decide(Verdict::kCommit));
    arm(std::chrono::milliseconds(1));
    for (int i = 0; i < 10; ++i) pause();
    agent_dies();
    EXPECT_EQ(exit_code(), 0);
    EXPECT_EQ(rescue_.calls(), kNone);
    EXPECT_TRUE(rescue_.take_overs().empty());
}

TEST_F(Guard, ObeysALaterDeadline) {
    start();
    arm(kLimit);
    arm(std::chrono::milliseconds(1));
    await_word(Verdict::kAbort);
    send({.kind = GuardMessageKind::kDismiss});
    EXPECT_EQ(exit_code(), 0);
}

TEST_F(Guard, SaysWhenTheGuestCouldNotBeGivenBack) {
    rescue_.fail();
    start();
    arm(kLimit);
    agent_dies();
    EXPECT_EQ(exit_code(), 1);
    EXPECT_EQ(word().read(), Verdict::kAbort);
}

}  // namespace
}  // namespace godwit
