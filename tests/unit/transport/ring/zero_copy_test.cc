// Sends without a copy. Between two sockets of this host the kernel always copies in the end, and
// says so: the trial must find that, and forced all the same every byte must arrive.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <future>
#include <thread>
#include <vector>

#include "engine/base/unique_fd.h"
#include "tests/unit/transport/random_bytes.h"
#include "transport/ring/io_uring_ring.h"

namespace godwit {
namespace {

using testing::HasSubstr;
using Use = ZeroCopyGauge::Use;

TEST(ZeroCopyGauge, GoesOnWhileTheKernelDoesNotCopy) {
    ZeroCopyGauge gauge;
    EXPECT_FALSE(gauge.wants(2 << 20)) << "nobody allowed it";
    gauge.allow(Use::kWhereItPays);
    EXPECT_TRUE(gauge.wants(2 << 20));
    EXPECT_FALSE(gauge.pays()) << "not known yet";
    gauge.reported(false);
    EXPECT_TRUE(gauge.pays());
    EXPECT_TRUE(gauge.wants(2 << 20));
    EXPECT_EQ(gauge.explain(), "on");
    EXPECT_FALSE(gauge.wants(ZeroCopyGauge::kLeastBytes - 1)) << "a copy is cheaper";
}

TEST(ZeroCopyGauge, EndsAtTheFirstCopyAndSaysWhy) {
    ZeroCopyGauge gauge;
    gauge.allow(Use::kWhereItPays);
    gauge.reported(false);
    gauge.reported(true);
    EXPECT_FALSE(gauge.wants(2 << 20));
    EXPECT_FALSE(gauge.pays());
    EXPECT_THAT(gauge.explain(), HasSubstr("copied all the same"));
}

TEST(ZeroCopyGauge, EndsWhereItCanNotBeDone) {
    ZeroCopyGauge gauge;
    gauge.allow(Use::kAlways);
    gauge.failed(EOPNOTSUPP);
    EXPECT_FALSE(gauge.wants(2 << 20));
    EXPECT_THAT(gauge.explain(), HasSubstr("EOPNOTSUPP"));
}

class ZeroCopySend : public testing::Test {
  protected:
    void SetUp() override {
        auto ring = IoUringRing::create();
        if (!ring.ok()) GTEST_SKIP() << ring.status();
        ring_ = *std::move(ring);
        const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const raw = reinterpret_cast<sockaddr*>(&address);
        ASSERT_EQ(::bind(listener.get(), raw, size), 0);
        ASSERT_EQ(::listen(listener.get(), 1), 0);
        ASSERT_EQ(::getsockname(listener.get(), raw, &size), 0);
        near_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(::connect(near_.get(), raw, size), 0);
        far_.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        ASSERT_TRUE(far_.valid());
    }

    // What the peer got until the end.
    std::future<std::vector<std::byte>> receive_all() {
        return std::async(std::launch::async, [this] {
            std::vector<std::byte> all;
            std::vector<std::byte> some(100'000);
            while (true) {
                const ssize_t got = ::recv(far_.get(), some.data(), some.size(), 0);
                if (got <= 0) return all;
                all.insert(all.end(), some.begin(), some.begin() + got);
            }
        });
    }

    // As page senders do: two buffers, of which one is filled while the other is sent.
    std::vector<std::byte> send_frames(size_t count, size_t bytes) {
        Random random(7);
        std::vector<std::byte> all;
        std::array<std::vector<std::byte>, 2> buffers;
        for (size_t i = 0; i < count; ++i) {
            std::vector<std::byte>& buffer = buffers[i % 2];
            buffer.resize(bytes);
            const auto content = random_bytes(random, bytes);
            std::copy(content.begin(), content.end(), buffer.begin());  // where it was
            all.insert(all.end(), content.begin(), content.end());
            EXPECT_TRUE(ring_->complete().ok());
            EXPECT_TRUE(ring_->start_send(near_.get(), buffer).ok());
        }
        EXPECT_TRUE(ring_->finish().ok());
        return all;
    }

    std::unique_ptr<IoUringRing> ring_;
    UniqueFd near_;
    UniqueFd far_;
};

TEST_F(ZeroCopySend, IsTriedOnceWhereTheKernelCopies) {
    auto received = receive_all();
    ring_->allow_zero_copy(Use::kWhereItPays);
    const auto sent = send_frames(8, 300'000);
    EXPECT_FALSE(ring_->zero_copy()->pays());
    EXPECT_FALSE(ring_->zero_copy()->wants(300'000));
    ::shutdown(near_.get(), SHUT_WR);
    EXPECT_EQ(received.get(), sent);
}

TEST_F(ZeroCopySend, BringsEveryByteInOrder) {
    auto received = receive_all();
    ring_->allow_zero_copy(Use::kAlways);
    const auto sent = send_frames(40, 500'000);
    EXPECT_TRUE(ring_->zero_copy()->wants(500'000)) << ring_->zero_copy()->explain();
    ::shutdown(near_.get(), SHUT_WR);
    EXPECT_EQ(received.get(), sent);
}

TEST_F(ZeroCopySend, ShutdownEndsTheWaitForAPeerThatTakesNothing) {
    ring_->allow_zero_copy(Use::kAlways);
    const std::vector<std::byte> bytes(size_t{64} << 20);  // more than any socket buffer
    ASSERT_TRUE(ring_->start_send(near_.get(), bytes).ok());
    std::jthread other([&] { ::shutdown(near_.get(), SHUT_RDWR); });
    EXPECT_FALSE(ring_->finish().ok());
    EXPECT_FALSE(ring_->in_flight());
}

// The kernel has all of it, so the send is complete; but the peer's window is full.
TEST_F(ZeroCopySend, ShutdownEndsTheWaitForBytesThatAreNotAcknowledged) {
    const int small = 4096;
    ASSERT_EQ(::setsockopt(far_.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    const int large = 8 << 20;
    ::setsockopt(near_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large);
    ring_->allow_zero_copy(Use::kAlways);
    const std::vector<std::byte> bytes(size_t{1} << 20);
    ASSERT_TRUE(ring_->start_send(near_.get(), bytes).ok());
    ASSERT_TRUE(ring_->complete().ok());
    std::jthread other([&] { ::shutdown(near_.get(), SHUT_RDWR); });
    EXPECT_TRUE(absl::IsUnavailable(ring_->finish()));
}

TEST(ZeroCopyOfAUnixSocket, FallsBackToACopyWhereTheSocketCanNot) {
    auto ring = IoUringRing::create();
    if (!ring.ok()) GTEST_SKIP() << ring.status();
    std::array<int, 2> sockets{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
    const UniqueFd near(sockets[0]);
    const UniqueFd far(sockets[1]);
    (*ring)->allow_zero_copy(Use::kWhereItPays);
    const std::vector<std::byte> bytes(ZeroCopyGauge::kLeastBytes, std::byte{7});
    ASSERT_TRUE((*ring)->start_send(near.get(), bytes).ok());
    std::vector<std::byte> got(bytes.size());
    std::jthread peer([&] {
        EXPECT_EQ(::recv(far.get(), got.data(), got.size(), MSG_WAITALL),
                  static_cast<ssize_t>(got.size()));
    });
    EXPECT_TRUE((*ring)->finish().ok());
    peer.join();
    EXPECT_EQ(got, bytes);
    EXPECT_THAT((*ring)->zero_copy()->explain(), HasSubstr("off: send_zc"));
}

}  // namespace
}  // namespace godwit
