// Drain: what a fault takes of the bandwidth.
#include "engine/source/drain.h"

#include "tests/unit/engine/source/round_sender_fixture.h"

namespace godwit {
namespace {

// Stands still: no debt of bandwidth is ever paid off.
class StoppedClock final : public Clock {
  public:
    [[nodiscard]] MonotonicTime now() const override { return MonotonicTime{}; }
};

class DrainBandwidth : public RoundSenderTest {
  protected:
    DrainBandwidth() {
        write_page(0, 5, 1, true);
        drain_ = Drain::create({.migration_id = "loopback",
                                .streams = kStreams,
                                .limiter = &limited_,
                                .blocks = blocks_,
                                .log = &log_})
                     .value();
        destination_.emplace(std::vector<Bytes>{kFirstBlock, kSecondBlock});
        streams_ = &destination_->connect(signals_, kStreams, Compression::kAuto, &limited_);
        drain_->set_missing(empty_set(), empty_set());
        drain_->serve(*streams_);
    }
    // What push-N would be told that wants to send a page now.
    absl::Status push_a_page() { return limited_.acquire(kPageBytes, {}, clock_.now()); }

    StoppedClock clock_;
    RateLimiter limited_{1'000'000, clock_};
    EventLog log_;
    std::unique_ptr<Drain> drain_;
};

TEST_F(DrainBandwidth, IsNotWaitedForByAFault) {
    PageRequests& faults = *drain_;
    ASSERT_TRUE(push_a_page().ok());
    ASSERT_TRUE(absl::IsDeadlineExceeded(push_a_page()));
    EXPECT_TRUE(faults.page_requested(0, 5).ok());
}

TEST_F(DrainBandwidth, IsOwedByThePushAfterAFaultAlone) {
    PageRequests& faults = *drain_;
    EXPECT_TRUE(faults.page_requested(0, 5).ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded(push_a_page()));
}

TEST_F(DrainBandwidth, IsFreeForThePushWhereNobodyFaults) { EXPECT_TRUE(push_a_page().ok()); }

}  // namespace
}  // namespace godwit
