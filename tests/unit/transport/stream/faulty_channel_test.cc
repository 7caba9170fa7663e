#include "transport/stream/faulty_channel.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/unit/transport/stream/channel_pairs.h"

namespace godwit {
namespace {

TEST(FaultyChannel, CutsTheConnectionAfterTheGivenByte) {
    auto [near, far] = unix_pair();
    const auto faulty = FaultyChannel::create(std::move(near), {.send = {.cut_after = 5}});
    ASSERT_TRUE(faulty.ok());
    std::vector<std::byte> bytes(3, std::byte{1});
    EXPECT_TRUE((*faulty)->send(bytes).ok());
    EXPECT_TRUE(absl::IsUnavailable((*faulty)->send(bytes)));
    std::vector<std::byte> got(5);
    EXPECT_TRUE(far->receive(got).ok());
    EXPECT_TRUE(absl::IsOutOfRange(far->receive(got)));
}

TEST(FaultyChannel, FlipsOneBitInEitherDirection) {
    auto [near, far] = unix_pair();
    const auto faulty = FaultyChannel::create(
        std::move(near), {.send = {.flip_byte = 4, .flip_bit = 7}, .receive = {.flip_byte = 0}});
    ASSERT_TRUE(faulty.ok());
    const std::vector<std::byte> zeros(3);
    std::vector<std::byte> got(3);
    for (size_t i = 0; i < 2; ++i) ASSERT_TRUE((*faulty)->send(zeros).ok());
    ASSERT_TRUE(far->receive(got).ok());
    EXPECT_EQ(got, zeros);
    ASSERT_TRUE(far->receive(got).ok());
    EXPECT_EQ(got[1], std::byte{0x80});
    ASSERT_TRUE(far->send(zeros).ok());
    ASSERT_TRUE((*faulty)->receive(got).ok());
    EXPECT_EQ(got[0], std::byte{1});
}

TEST(FaultyChannel, ShutdownEndsADelay) {
    auto [near, far] = unix_pair();
    const auto faulty =
        FaultyChannel::create(std::move(near), {.send = {.delay = std::chrono::hours(1)}});
    ASSERT_TRUE(faulty.ok());
    std::jthread other([&] { (*faulty)->shutdown(); });
    EXPECT_TRUE(absl::IsCancelled((*faulty)->send(std::vector<std::byte>(1))));
}

}  // namespace
}  // namespace godwit
