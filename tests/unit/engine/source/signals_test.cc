#include "engine/source/signals.h"

#include <gtest/gtest.h>

#include <thread>

namespace godwit {
namespace {

using Seen = SourceSignals::Seen;
using Mind = SourceSignals::Mind;

constexpr Duration kSignalLimit = std::chrono::seconds(20);

MonotonicTime soon() { return Clock::system().now() + std::chrono::milliseconds(20); }
MonotonicTime late() { return Clock::system().now() + kSignalLimit; }

absl::Status wait_for_resumed(SourceSignals& signals, Mind mind, MonotonicTime deadline) {
    return signals
        .wait("the answer", mind, deadline,
              [](const Seen& seen) { return seen.resumed_at.has_value(); })
        .status();
}

TEST(SourceSignals, AnAnswerThatCameBeforeBadNewsIsAnAnswer) {
    SourceSignals signals(1);
    signals.update([](Seen& seen) {
        seen.resumed_at = Clock::system().now();
        seen.connection = absl::UnavailableError("reset");
        seen.guest_gone = true;
    });
    EXPECT_TRUE(wait_for_resumed(signals, Mind::kAll, Clock::system().now()).ok());
}

TEST(SourceSignals, AHoldIsLetGoOnOrEndsAndTheFirstOfThemCounts) {
    SourceSignals told(1);
    EXPECT_TRUE(told.let_go_on());
    EXPECT_FALSE(told.end_hold()) << "somebody has heard that it switches over";
    EXPECT_TRUE(told.let_go_on()) << "twice is as good as once";
    EXPECT_TRUE(told.seen().let_go_on);
    SourceSignals late(1);
    EXPECT_TRUE(late.end_hold());
    EXPECT_FALSE(late.let_go_on());
    EXPECT_TRUE(late.end_hold());
    EXPECT_FALSE(late.seen().let_go_on);
}

TEST(SourceSignals, ADeadlineSaysWhatTookTooLong) {
    SourceSignals signals(1);
    const absl::Status status = wait_for_resumed(signals, Mind::kAll, soon());
    EXPECT_TRUE(absl::IsDeadlineExceeded(status));
    EXPECT_NE(status.message().find("the answer took longer than 0.0 s"), std::string::npos)
        << status;
}

TEST(SourceSignals, ACancelFromAnotherThreadEndsAWait) {
    SourceSignals signals(1);
    const std::jthread canceller(
        [&] { signals.update([](Seen& seen) { seen.cancelled = true; }); });
    EXPECT_TRUE(absl::IsCancelled(wait_for_resumed(signals, Mind::kAll, late())));
}

TEST(SourceSignals, BadNewsEndAWaitWithTheirReason) {
    const auto status_after = [](const std::function<void(Seen&)>& change, Mind mind) {
        SourceSignals signals(1);
        signals.update(change);
        return wait_for_resumed(signals, mind, soon());
    };
    EXPECT_TRUE(absl::IsUnavailable(status_after(
        [](Seen& seen) { seen.connection = absl::UnavailableError("reset"); }, Mind::kAll)));
    const absl::Status load =
        status_after([](Seen& seen) { seen.load_failed = "no such device"; }, Mind::kAll);
    EXPECT_TRUE(absl::IsAborted(load));
    EXPECT_NE(load.message().find("no such device"), std::string::npos);
    EXPECT_TRUE(
        absl::IsAborted(status_after([](Seen& seen) { seen.refused = "image lock"; }, Mind::kAll)));
    EXPECT_TRUE(
        absl::IsNotFound(status_after([](Seen& seen) { seen.guest_gone = true; }, Mind::kAll)));
}

TEST(SourceSignals, ARollbackMindsOnlyADeadGuest) {
    SourceSignals signals(1);
    signals.update([](Seen& seen) {
        seen.cancelled = true;
        seen.connection = absl::UnavailableError("reset");
    });
    EXPECT_TRUE(absl::IsDeadlineExceeded(wait_for_resumed(signals, Mind::kGuestOnly, soon())));
    signals.update([](Seen& seen) { seen.guest_gone = true; });
    EXPECT_TRUE(absl::IsNotFound(wait_for_resumed(signals, Mind::kGuestOnly, late())));
}

TEST(SourceSignals, AProblemIsEverythingButTheGuestsOwnEnd) {
    SourceSignals signals(1);
    EXPECT_TRUE(signals.problem().ok());
    signals.update([](Seen& seen) { seen.guest_gone = true; });
    EXPECT_TRUE(signals.problem().ok());
    signals.update([](Seen& seen) { seen.cancelled = true; });
    EXPECT_TRUE(absl::IsCancelled(signals.problem()));
}

TEST(SourceSignals, ARoundIsConfirmedWhenEveryStreamHasConfirmedIt) {
    SourceSignals signals(3);
    EXPECT_FALSE(signals.seen().all_acked(0, 3));
    signals.update([](Seen& seen) { seen.acked_round = {2, 1, 2}; });
    EXPECT_TRUE(signals.seen().all_acked(1, 3));
    EXPECT_FALSE(signals.seen().all_acked(2, 3));
    EXPECT_TRUE(signals.seen().all_acked(2, 1)) << "those in use";
}

TEST(SourceSignals, GuestEventsOfAnEarlierMigrationAreForgotten) {
    SourceSignals signals(1);
    const MonotonicTime at = Clock::system().now();
    signals.on_guest_event({.kind = GuestEventKind::kStop, .at = at});
    signals.on_guest_event({.kind = GuestEventKind::kMigration, .detail = "failed", .at = at});
    EXPECT_EQ(signals.seen().stopped_at, at);
    EXPECT_TRUE(signals.seen().has_status("failed"));
    signals.forget_guest();
    EXPECT_FALSE(signals.seen().stopped_at);
    EXPECT_FALSE(signals.seen().has_status("failed"));
    signals.on_guest_event({.kind = GuestEventKind::kGone, .at = at});
    EXPECT_TRUE(signals.seen().guest_gone);
}

}  // namespace
}  // namespace godwit
