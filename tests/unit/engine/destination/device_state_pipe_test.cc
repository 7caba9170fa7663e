#include "engine/destination/device_state_pipe.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

namespace godwit {
namespace {

// More than any socket buffers.
constexpr size_t kPart = 1 << 20;
constexpr size_t kParts = 32;

// The test is QEMU: it reads its end of the stream when it likes.
class DeviceStatePipeTest : public ::testing::Test {
  protected:
    void start(Bytes max_waiting = DeviceStatePipe::kMaxWaiting) {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        qemu_.reset(ends[1]);
        auto made = DeviceStatePipe::create(UniqueFd(ends[0]), max_waiting);
        ASSERT_TRUE(made.ok()) << made.status();
        pipe_ = *std::move(made);
    }
    absl::Status write(const std::string& text) {
        return pipe_->write(std::as_bytes(std::span(text)));
    }
    static std::string part(size_t number) {
        return std::string(kPart, static_cast<char>('a' + number % 26));
    }
    // Up to `limit` bytes, fewer at the end of the stream.
    std::string read(size_t limit) {
        std::string text(limit, '\0');
        size_t got = 0;
        while (got < limit) {
            const ssize_t count = ::read(qemu_.get(), text.data() + got, limit - got);
            if (count <= 0) break;
            got += static_cast<size_t>(count);
        }
        text.resize(got);
        return text;
    }

    UniqueFd qemu_;
    std::unique_ptr<DeviceStatePipe> pipe_;
};

TEST_F(DeviceStatePipeTest, HandsOverWhatWasWrittenInOrderAndTheEndBehindIt) {
    ASSERT_NO_FATAL_FAILURE(start());
    std::string all;
    for (size_t i = 0; i < 1000; ++i) {
        const std::string text = std::to_string(i) + ",";
        ASSERT_TRUE(write(text).ok());
        all += text;
    }
    pipe_->end();
    EXPECT_EQ(read(all.size() + 1), all);
    EXPECT_EQ(pipe_->written(), all.size());
}

TEST_F(DeviceStatePipeTest, NeverWaitsForAQemuThatDoesNotRead) {
    ASSERT_NO_FATAL_FAILURE(start());
    // Would not return if it waited: nobody reads yet.
    for (size_t i = 0; i < kParts; ++i) ASSERT_TRUE(write(part(i)).ok());
    pipe_->end();
    EXPECT_EQ(pipe_->written(), kParts * kPart);
    for (size_t i = 0; i < kParts; ++i) ASSERT_EQ(read(kPart), part(i)) << i;
    EXPECT_EQ(read(1), "") << "the end";
}

TEST_F(DeviceStatePipeTest, KeepsTheStreamOpenUntilTheEndIsSaid) {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_TRUE(write("first").ok());
    EXPECT_EQ(read(5), "first");
    pollfd more{qemu_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&more, 1, 0), 0) << "neither bytes nor an end";
    ASSERT_TRUE(write("second").ok());
    pipe_->end();
    EXPECT_EQ(read(100), "second");
}

TEST_F(DeviceStatePipeTest, EndsAStreamOnWhichNothingCame) {
    ASSERT_NO_FATAL_FAILURE(start());
    pipe_->end();
    EXPECT_EQ(read(1), "");
    EXPECT_EQ(pipe_->written(), 0U);
}

TEST_F(DeviceStatePipeTest, RefusesMoreThanMayWait) {
    ASSERT_NO_FATAL_FAILURE(start(100));
    const absl::Status refused = write(std::string(101, 'x'));
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
    // What was refused is nowhere in the stream.
    ASSERT_TRUE(write("fits").ok());
    pipe_->end();
    EXPECT_EQ(read(100), "fits");
}

TEST_F(DeviceStatePipeTest, CountsOnlyWhatWaitsForTheLimit) {
    ASSERT_NO_FATAL_FAILURE(start(2 * kPart));
    for (size_t i = 0; i < kParts; ++i) {
        ASSERT_TRUE(write(part(i)).ok()) << i;
        ASSERT_EQ(read(kPart), part(i)) << i;
    }
    // Unread, it soon is too much.
    size_t taken = 0;
    while (taken < kParts && write(part(taken)).ok()) ++taken;
    EXPECT_GE(taken, 1U);
    EXPECT_LT(taken, kParts);
}

TEST_F(DeviceStatePipeTest, DropsWhatAQemuThatHasGoneDoesNotWant) {
    ASSERT_NO_FATAL_FAILURE(start(2 * kPart));
    ASSERT_TRUE(write(part(0)).ok());
    EXPECT_EQ(read(10), std::string(10, 'a'));
    qemu_.reset();
    // Each is taken from what waits sooner or later, and dropped: the limit is not reached for
    // good.
    for (size_t i = 0; i < kParts; ++i) {
        while (!write(part(i)).ok()) ::sched_yield();
    }
    pipe_->end();
}

TEST_F(DeviceStatePipeTest, IsDestroyedWhileNobodyReads) {
    ASSERT_NO_FATAL_FAILURE(start());
    for (size_t i = 0; i < kParts; ++i) ASSERT_TRUE(write(part(i)).ok());
    pipe_.reset();
    // What the socket held already, in order, and then the end.
    const std::string rest = read(kParts * kPart);
    EXPECT_LT(rest.size(), kParts * kPart);
    std::string all;
    for (size_t i = 0; i < kParts; ++i) all += part(i);
    EXPECT_EQ(all.compare(0, rest.size(), rest), 0);
}

TEST_F(DeviceStatePipeTest, IsDestroyedWithTheEndSaidAndUnread) {
    ASSERT_NO_FATAL_FAILURE(start());
    for (size_t i = 0; i < kParts; ++i) ASSERT_TRUE(write(part(i)).ok());
    pipe_->end();
    pipe_.reset();
    EXPECT_LT(read(kParts * kPart).size(), kParts * kPart);
}

TEST_F(DeviceStatePipeTest, IsDestroyedWhenNothingWasWritten) {
    ASSERT_NO_FATAL_FAILURE(start());
    pipe_.reset();
    EXPECT_EQ(read(1), "");
}

}  // namespace
}  // namespace godwit
