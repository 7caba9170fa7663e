#include "bench/lab/event_board.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/bench/lab/soon.h"

namespace godwit {
namespace {

QmpEvent migration(const char* status, int64_t stamp_us = 0) {
    return {.name = "MIGRATION",
            .data = {{"status", status}},
            .stamp = std::chrono::microseconds(stamp_us)};
}

class EventBoardTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto cancel = Wakeup::create();
        ASSERT_TRUE(cancel.ok());
        cancel_.emplace(*std::move(cancel));
        auto board = EventBoard::create(cancel_->fd());
        ASSERT_TRUE(board.ok());
        board_ = *std::move(board);
    }
    std::optional<Wakeup> cancel_;
    std::unique_ptr<EventBoard> board_;
};

TEST_F(EventBoardTest, FindsAnEventThatCameBeforeItWasWaitedFor) {
    board_->listener(Side::kSource)(migration("active"), {});
    board_->listener(Side::kDestination)(migration("completed", 2500), {});
    board_->listener(Side::kSource)(migration("completed", 1000), {});
    const auto source = board_->wait({Side::kSource, "MIGRATION", "completed"}, soon());
    const auto destination = board_->wait({Side::kDestination, "MIGRATION", "completed"}, soon());
    ASSERT_TRUE(source.ok() && destination.ok());
    EXPECT_DOUBLE_EQ(ms_between(*source, *destination), 1.5);
}

TEST_F(EventBoardTest, WaitsForAPassThatIsFarEnough) {
    std::jthread qemu([listener = board_->listener(Side::kSource)] {
        for (const int pass : {1, 2, 3})
            listener({.name = "MIGRATION_PASS", .data = {{"pass", pass}}}, {});
    });
    const auto seen =
        board_->wait({.side = Side::kSource, .name = "MIGRATION_PASS", .pass = 3}, soon());
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_EQ(seen->pass, 3);
}

TEST_F(EventBoardTest, AFailedMigrationEndsEveryWait) {
    board_->listener(Side::kDestination)(migration("failed"), {});
    EXPECT_TRUE(absl::IsAborted(board_->wait({Side::kSource, "STOP"}, soon()).status()));
}

TEST_F(EventBoardTest, AnInterruptEndsAWait) {
    cancel_->notify();
    EXPECT_TRUE(absl::IsCancelled(board_->wait({Side::kSource, "STOP"}, soon()).status()));
}

TEST_F(EventBoardTest, AProcessThatEndsEndsAWait) {
    auto gone = Wakeup::create();
    ASSERT_TRUE(gone.ok());
    board_->watch(gone->fd());
    gone->notify();
    EXPECT_TRUE(absl::IsAborted(board_->wait({Side::kSource, "STOP"}, soon()).status()));
}

TEST_F(EventBoardTest, GivesUpAtTheDeadline) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        board_->wait({Side::kSource, "STOP"}, Clock::system().now()).status()));
}

}  // namespace
}  // namespace godwit
