#include "engine/source/confirmation.h"

#include <gmock/gmock.h>

#include "tests/unit/engine/source/round_sender_fixture.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;

TEST(Silence, IsSoManyLooksWithoutAChange) {
    Silence silence(3);
    const Silence::Signs nothing{.unacknowledged_bytes = 5, .acked_rounds = {1, 2}};
    for (int look = 0; look < 3; ++look) EXPECT_FALSE(silence.note(nothing)) << look;
    EXPECT_TRUE(silence.note(nothing));
}

TEST(Silence, EndsWithAnyByteOrConfirmation) {
    Silence silence(2);
    Silence::Signs signs{.unacknowledged_bytes = 5, .acked_rounds = {1, 2}};
    for (int i = 0; i < 20; ++i) {
        EXPECT_FALSE(silence.note(signs)) << i;
        EXPECT_FALSE(silence.note(signs)) << i;
        if (i % 2 == 0)
            --signs.unacknowledged_bytes;
        else
            ++signs.acked_rounds[1];
        if (i == 8) signs.unacknowledged_bytes = 100;
    }
}

constexpr ConfirmationLimits kShort{
    .deadline = MonotonicTime::max(), .look = std::chrono::milliseconds(1), .most_looks = 2};

class Confirmation : public RoundSenderTest {
  protected:
    void send_all_pages() {
        set_ = fill();
        sender_->begin(set_, round_, GuestState::kRuns);
        ASSERT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
        ASSERT_TRUE(sender_->finish().ok());
    }

  private:
    PageSet set_;
};

TEST_F(Confirmation, IsThereOnceAllStreamsHaveSaidSo) {
    connect();
    send_all_pages();
    const absl::Status status = await_confirmation(
        signals_, *streams_, 0, {.deadline = Clock::system().now() + kRoundLimit});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(signals_.seen().all_acked(0, kStreams));
    expect_same_memory();
}

// Its host takes every byte: no connection ends by itself.
TEST_F(Confirmation, ADestinationThatTakesAllAndConfirmsNothingIsGivenUp) {
    connect();
    destination_->fall_silent();
    send_all_pages();
    const absl::Status status = await_confirmation(signals_, *streams_, 0, kShort);
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("data streams 0, 1, 2,"));
}

TEST_F(Confirmation, TheStreamThatIsMissingIsNamed) {
    connect();
    destination_->fall_silent();
    send_all_pages();
    signals_.update([](SourceSignals::Seen& seen) { seen.acked_round = {0, -1, 0}; });
    const absl::Status status = await_confirmation(signals_, *streams_, 0, kShort);
    EXPECT_THAT(std::string(status.message()), HasSubstr("data stream 1,"));
}

TEST_F(Confirmation, TheDeadlineOfARoundAndALostConnectionCountAsBefore) {
    connect();
    destination_->fall_silent();
    send_all_pages();
    const absl::Status late =
        await_confirmation(signals_, *streams_, 0, {.deadline = Clock::system().now()});
    EXPECT_THAT(std::string(late.message()), HasSubstr("a round took longer than"));
    signals_.update(
        [](SourceSignals::Seen& seen) { seen.connection = absl::UnavailableError("reset"); });
    EXPECT_TRUE(absl::IsUnavailable(await_confirmation(signals_, *streams_, 0, kShort)));
}

}  // namespace
}  // namespace godwit
