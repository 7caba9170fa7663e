// Rounds whose bandwidth is limited.
#include "tests/unit/engine/source/round_sender_fixture.h"

namespace godwit {
namespace {

TEST_F(RoundSenderTest, SendsSmallerFramesWhereTheBandwidthIsLimited) {
    // 8 ms of it: 1.6 MB, so that a chunk takes two frames.
    limiter_ = std::make_unique<RateLimiter>(200'000'000);
    connect();
    const RoundTotals totals = send(fill());
    EXPECT_EQ(totals.raw_chunks + totals.lz4_chunks + totals.zstd_chunks, 2U * 7);
    expect_same_memory();
    EXPECT_EQ(destination_->strayed_frames(), 0U);
}

TEST_F(RoundSenderTest, ANewLimitReachesTheRoundThatIsUnderWay) {
    limiter_ = std::make_unique<RateLimiter>(1);  // a frame, and then nothing for hours
    connect();
    const PageSet set = fill();
    streams_->expect_acks_up_to(round_);
    sender_->begin(set, round_, GuestState::kRuns);
    EXPECT_FALSE(sender_->wait(Clock::system().now()));
    limiter_->set_rate(0);
    EXPECT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
    EXPECT_TRUE(sender_->finish().ok());
    send(empty_set());  // a round later all of it has been applied
    expect_same_memory();
}

TEST_F(RoundSenderTest, ShutdownEndsAWaitForBandwidth) {
    limiter_ = std::make_unique<RateLimiter>(1);
    connect();
    const PageSet set = fill();
    streams_->expect_acks_up_to(round_);
    sender_->begin(set, round_, GuestState::kRuns);
    streams_->shutdown();
    EXPECT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
    EXPECT_FALSE(sender_->finish().ok());
}

}  // namespace
}  // namespace godwit
