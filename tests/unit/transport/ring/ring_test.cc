#include "transport/ring/ring.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <thread>
#include <vector>

#include "engine/base/unique_fd.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/ring_kinds.h"

namespace godwit {
namespace {

class RingTest : public testing::TestWithParam<RingKind> {
  protected:
    void SetUp() override {
        std::array<int, 2> sockets{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
        near_.reset(sockets[0]);
        far_.reset(sockets[1]);
        auto ring = Ring::create(GetParam());
        ASSERT_TRUE(ring.ok()) << ring.status();
        ring_ = *std::move(ring);
    }

    UniqueFd near_;
    UniqueFd far_;
    std::unique_ptr<Ring> ring_;
};

TEST_P(RingTest, ATransferLargerThanTheSocketBufferArrivesWhole) {
    Random random(1);
    const auto sent = random_bytes(random, size_t{8} << 20);
    std::vector<std::byte> received(sent.size());
    std::jthread peer([&] {
        size_t done = 0;
        // Uneven pieces, so that every send is a short one.
        while (done < received.size()) {
            const ssize_t got = ::recv(far_.get(), received.data() + done,
                                       std::min<size_t>(received.size() - done, 10007), 0);
            ASSERT_GT(got, 0);
            done += static_cast<size_t>(got);
        }
    });
    ASSERT_TRUE(ring_->start_send(near_.get(), sent).ok());
    EXPECT_TRUE(ring_->finish().ok());
    EXPECT_FALSE(ring_->in_flight());
    EXPECT_EQ(ring_->transferred(), sent.size());
    peer.join();
    EXPECT_EQ(received, sent);
}

TEST_P(RingTest, AReceiveWaitsForItsLastByte) {
    std::array<std::byte, 3> bytes{};
    ASSERT_TRUE(ring_->start_receive(near_.get(), bytes).ok());
    std::jthread peer([&] {
        for (const char* byte : {"a", "b", "c"}) ASSERT_EQ(::send(far_.get(), byte, 1, 0), 1);
    });
    ASSERT_TRUE(ring_->finish().ok());
    EXPECT_EQ(bytes[0], std::byte{'a'});
    EXPECT_EQ(bytes[2], std::byte{'c'});
}

TEST_P(RingTest, AnEndBeforeTheFirstByteIsOutOfRangeAndInTheMiddleUnavailable) {
    std::array<std::byte, 4> bytes{};
    ASSERT_EQ(::send(far_.get(), "ab", 2, 0), 2);
    far_.reset();
    ASSERT_TRUE(ring_->start_receive(near_.get(), bytes).ok());
    EXPECT_TRUE(absl::IsUnavailable(ring_->finish()));
    EXPECT_EQ(ring_->transferred(), 2u);
    ASSERT_TRUE(ring_->start_receive(near_.get(), bytes).ok());
    EXPECT_TRUE(absl::IsOutOfRange(ring_->finish()));
}

TEST_P(RingTest, SendingToAPeerThatHasGoneIsAnErrorAndNoSignal) {
    far_.reset();
    const std::vector<std::byte> bytes(100);
    ASSERT_TRUE(ring_->start_send(near_.get(), bytes).ok());
    EXPECT_TRUE(absl::IsUnavailable(ring_->finish()));
}

TEST_P(RingTest, NothingToCarryIsDoneAtOnce) {
    ASSERT_TRUE(ring_->start_send(near_.get(), {}).ok());
    EXPECT_FALSE(ring_->in_flight());
    EXPECT_TRUE(ring_->finish().ok());
}

TEST_P(RingTest, ShutdownOfTheSocketEndsATransferThatIsInFlight) {
    const std::vector<std::byte> bytes(size_t{8} << 20);
    ASSERT_TRUE(ring_->start_send(near_.get(), bytes).ok());
    ASSERT_TRUE(ring_->in_flight());
    std::jthread other([&] { ::shutdown(near_.get(), SHUT_RDWR); });
    EXPECT_FALSE(ring_->finish().ok());
    EXPECT_FALSE(ring_->in_flight());
}

TEST_P(RingTest, WorksOnAfterASignal) {
    struct sigaction nothing {};
    struct sigaction before {};
    nothing.sa_handler = [](int) {};  // without SA_RESTART: system calls end with EINTR
    ASSERT_EQ(::sigaction(SIGUSR1, &nothing, &before), 0);
    std::array<std::byte, 2> bytes{};
    ASSERT_TRUE(ring_->start_receive(near_.get(), bytes).ok());
    std::jthread peer([&, waiter = ::pthread_self()] {
        for (const char* byte : {"a", "b"}) {
            EXPECT_EQ(::pthread_kill(waiter, SIGUSR1), 0);
            ASSERT_EQ(::send(far_.get(), byte, 1, 0), 1);
        }
    });
    EXPECT_TRUE(ring_->finish().ok());
    EXPECT_EQ(bytes[1], std::byte{'b'});
    peer.join();
    ::sigaction(SIGUSR1, &before, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Kinds, RingTest, kRingKinds, name_of_kind);

}  // namespace
}  // namespace godwit
