#include "engine/guest/libvirt/late_calls.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <optional>

namespace godwit {
namespace {

constexpr Duration kLong = std::chrono::minutes(5);

// A call that returns when the test says so.
struct Gate {
    std::promise<void> opened;
    std::shared_future<void> open = opened.get_future().share();
};

TEST(LateCall, IsWaitedForAndItsResultReturned) {
    const absl::StatusOr<int> seven =
        result_within<int>(kLong, []() -> absl::StatusOr<int> { return 7; });
    ASSERT_TRUE(seven.ok());
    EXPECT_EQ(*seven, 7);
    const absl::Status refused =
        status_within(kLong, [] { return absl::PermissionDeniedError("no"); });
    EXPECT_TRUE(absl::IsPermissionDenied(refused));
}

TEST(LateCall, LetsGoOfWhatItUsedBeforeItIsDone) {
    std::weak_ptr<int> seen;
    {
        auto used = std::make_shared<int>(1);
        seen = used;
        EXPECT_TRUE(done_within(kLong, "a call", [used = std::move(used)] {}));
    }
    EXPECT_TRUE(seen.expired());
}

TEST(LateCall, ThatComesTooLateHandsItsResultToWhoeverTidiesUp) {
    Gate gate;
    std::promise<int> unheard;
    const size_t hanging = late_calls_that_hang();
    const absl::StatusOr<int> nothing = result_within<int>(
        Duration::zero(),
        [open = gate.open]() -> absl::StatusOr<int> {
            open.wait();
            return 7;
        },
        [&](absl::StatusOr<int> late) { unheard.set_value(late.value_or(0)); });
    EXPECT_TRUE(absl::IsDeadlineExceeded(nothing.status()));
    EXPECT_EQ(late_calls_that_hang(), hanging + 1);
    gate.opened.set_value();
    EXPECT_EQ(unheard.get_future().get(), 7);
}

// In a process of its own: there is no way back from a hurry.
TEST(LateCalls, AreGivenUpAllTogetherWhenTheProcessEnds) {
    const auto hurry = [] {
        Gate gate;
        std::promise<void> waits;
        std::optional<bool> done;
        std::jthread waiter([&] {
            LateCall call("a call", [open = gate.open, &waits] {
                waits.set_value();
                open.wait();
            });
            done = call.done_by(Clock::system().now() + kLong);
        });
        waits.get_future().wait();
        hurry_late_calls(Duration::zero());
        waiter.join();
        const bool later = done_within(kLong, "a call", [open = gate.open] { open.wait(); });
        ::_exit(done == false && !later && late_calls_are_over() ? 0 : 1);
    };
    EXPECT_EXIT(hurry(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace godwit
