#include <gtest/gtest.h>

#include <sstream>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;

// All but a hundredth of a minute: what waits for its end is not answered in time.
constexpr milliseconds kAges = minutes(1);

class ResidentThrottle : public ResidentTest {
  protected:
    void start_busy() {
        ASSERT_NO_FATAL_FAILURE(start_target());
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, 1024}), "fine");
        run_again();
    }
    void run_again() {
        // One piece of work that takes long, so that the vCPU does not leave the guest by itself.
        ASSERT_EQ(
            target_->tell("run 0 1 " + std::to_string(kGuestPage * kPageBytes) + " 1024 100000000"),
            "fine");
    }
    // The vCPU's share of the time while `work` is done.
    template <typename Work>
    double share_during(Work&& work) {
        const auto [run_before, time_before] = cpu();
        work();
        const auto [run_after, time_after] = cpu();
        return static_cast<double>(run_after - run_before) /
               static_cast<double>(time_after - time_before);
    }
    std::pair<uint64_t, uint64_t> cpu() {
        std::istringstream in(target_->tell("cpu 0"));
        std::pair<uint64_t, uint64_t> times;
        in >> times.first >> times.second;
        return times;
    }
    ResidentState state() {
        const auto state = client_->state();
        EXPECT_TRUE(state.ok()) << state.status();
        return state.ok() ? *state : ResidentState{};
    }
    // The vCPU has been held at least this many times.
    void wait_for_holds(uint64_t count) {
        const uint64_t before = state().holds;
        const auto limit = Clock::system().now() + std::chrono::seconds(15);
        while (state().holds < before + count && Clock::system().now() < limit) {
        }
        ASSERT_GE(state().holds, before + count) << "the vCPU was not held";
    }
};

TEST_F(ResidentThrottle, TakesABusyVcpusShareOfTheTime) {
    ASSERT_NO_FATAL_FAILURE(start_busy());
    ASSERT_TRUE(client_->set_throttle(80).ok());
    ASSERT_NO_FATAL_FAILURE(wait_for_holds(2));
    const double share = share_during([this] { wait_for_holds(25); });
    EXPECT_LT(share, 0.5);
    EXPECT_GT(state().kicks, 0u);  // it would not have left the guest by itself
    ASSERT_TRUE(client_->set_throttle(0).ok());
    const uint64_t holds = state().holds;
    EXPECT_EQ(target_->tell("halt 0"), "fine");
    EXPECT_EQ(state().holds, holds);
}

TEST_F(ResidentThrottle, LetsAVcpuGoAtOnceWhenItIsKicked) {
    ASSERT_NO_FATAL_FAILURE(start_busy());
    ASSERT_TRUE(client_->set_throttle(99, kAges).ok());
    for (int i = 0; i < 50; ++i) ASSERT_EQ(target_->tell("kick 0"), "fine");
    ASSERT_EQ(target_->tell("halt 0"), "fine");
}

TEST_F(ResidentThrottle, EndsAtOnce) {
    ASSERT_NO_FATAL_FAILURE(start_busy());
    ASSERT_EQ(target_->tell("halt 0"), "fine");
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(client_->set_throttle(99, kAges).ok());
        ASSERT_EQ(target_->tell("start-list 0 " + std::to_string(kGuestPage * kPageBytes)), "fine");
        ASSERT_TRUE(client_->set_throttle(0).ok());
        ASSERT_EQ(target_->tell("await 0"), "fine");
    }
}

TEST_F(ResidentThrottle, EndsWithTheAgent) {
    ASSERT_NO_FATAL_FAILURE(start_busy());
    ASSERT_EQ(target_->tell("halt 0"), "fine");
    ASSERT_TRUE(client_->set_throttle(99, kAges).ok());
    ASSERT_EQ(target_->tell("start-list 0 " + std::to_string(kGuestPage * kPageBytes)), "fine");
    client_.reset();
    ASSERT_EQ(target_->tell("await 0"), "fine");
    ASSERT_NO_FATAL_FAILURE(connect());
    EXPECT_EQ(state().held_percent, 0u);
}

TEST_F(ResidentThrottle, RefusesAWholeVcpu) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(client_->set_throttle(100).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(client_->set_throttle(50, milliseconds(1)).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(client_->set_throttle(0).ok());
}

}  // namespace
}  // namespace godwit
