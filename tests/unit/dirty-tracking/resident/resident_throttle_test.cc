#include <gtest/gtest.h>

#include <sstream>

#include "dirty-tracking/resident/vcpu_throttle.h"
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

// As a policy uses it, while a tracker has the log.
TEST_F(ResidentThrottle, HasAConnectionOfItsOwnBesideTheLog) {
    ASSERT_NO_FATAL_FAILURE(start_busy());
    ASSERT_NO_FATAL_FAILURE(start_log());
    auto throttle = ResidentVcpuThrottle::connect(target_->socket_path, target_->program->pid());
    ASSERT_TRUE(throttle.ok()) << throttle.status();
    EXPECT_TRUE((*throttle)->release().ok());
    ASSERT_TRUE((*throttle)->set(80).ok());
    ASSERT_NO_FATAL_FAILURE(wait_for_holds(2));
    EXPECT_EQ(state().held_percent, 80u);
    const absl::Status refused = client_->set_throttle(30);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
    ASSERT_TRUE((*throttle)->set(40).ok());
    EXPECT_EQ(state().held_percent, 40u);
    ASSERT_TRUE((*throttle)->release().ok());
    EXPECT_EQ(state().held_percent, 0u);
    EXPECT_TRUE(client_->set_throttle(30).ok());
    EXPECT_FALSE((*throttle)->set(40).ok());
    EXPECT_TRUE(client_->set_throttle(0).ok());
    ASSERT_TRUE((*throttle)->set(99, kAges).ok());
    throttle->reset();
    EXPECT_TRUE(state().log_on);
    ASSERT_EQ(target_->tell("halt 0"), "fine");
}

TEST_F(ResidentThrottle, IsRefusedClearlyWhereNothingCanBeHeld) {
    ASSERT_NO_FATAL_FAILURE(start_target({.arguments = {"no-kvm"}}));
    const auto tcg = ResidentVcpuThrottle::connect(target_->socket_path, target_->program->pid());
    EXPECT_EQ(tcg.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(tcg.status().message().find("TCG"), std::string::npos) << tcg.status();
    const auto none = ResidentVcpuThrottle::connect(target_->socket_path, ::getpid());
    EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(none.status().message().find("resident"), std::string::npos) << none.status();
}

TEST_F(ResidentThrottle, HoldsNothingWhenQemuHasGone) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    auto throttle = ResidentVcpuThrottle::connect(target_->socket_path, target_->program->pid());
    ASSERT_TRUE(throttle.ok()) << throttle.status();
    EXPECT_EQ((*throttle)->set(0).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*throttle)->set(100).code(), absl::StatusCode::kInvalidArgument);
    target_->program->kill_and_reap();
    EXPECT_EQ((*throttle)->set(50).code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE((*throttle)->release().ok());
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
