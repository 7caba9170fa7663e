// Destinations that break the protocol. The source undoes everything, says what was wrong, and its
// guest runs on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/hostile/fake_destination.h"
#include "transport/control/error_detail.h"
#include "transport/frame/bodies.h"
#include "transport/frame/pages_body.h"

namespace godwit::testing {
namespace {

// A real agent with a guest, which is migrated to a destination that tells these lies.
class LyingDestination : public ::testing::Test {
  protected:
    void SetUp() override { start_guest(source_, small_guest()); }

    CommandResult migrate_to(const FakeDestination& liar) {
        // Without --verify: a fake destination has no RAM to compare.
        return source_.cli({"migrate", "vm", "--to", liar.address(), "--json", "--strategy",
                            "precopy", "--downtime-limit", "500ms"});
    }
    void expect_failure(Lies lies, const std::vector<std::string>& words) {
        const FakeDestination liar(std::move(lies));
        expect_at_source(source_, migrate_to(liar),
                         {.exit_code = 1, .outcome = "failed", .words = words});
        EXPECT_TRUE(liar.was_aborted()) << "the destination was not told to clean up";
    }
    void expect_refusal(Lies lies, const std::vector<std::string>& words) {
        const FakeDestination liar(std::move(lies));
        expect_at_source(source_, migrate_to(liar), {.words = words});
    }

    TestAgent source_;
};

std::vector<std::byte> noise(size_t size) {
    std::vector<std::byte> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 167 + 13);
    return bytes;
}

// The answer of `text` to the first marker of any stream.
std::function<bool(UrgentStream&, const Frame&)> on(FrameKind kind,
                                                    std::function<void(UrgentStream&)> lie) {
    return [kind, lie = std::move(lie)](UrgentStream& urgent, const Frame& frame) {
        if (frame.kind() != kind) return false;
        lie(urgent);
        return true;
    };
}

// --- Prepare --------------------------------------------------------------------------------

TEST_F(LyingDestination, OfAnotherProtocolVersionIsRefusedByBothNumbers) {
    expect_refusal({.prepare =
                        [](v1::PrepareResponse&) {
                            return to_grpc(absl::FailedPreconditionError(
                                               "Transfer protocol 1 meets 99: upgrade the older of "
                                               "the two agents"),
                                           untouched("PROTOCOL_VERSION"));
                        }},
                   {"Transfer protocol 1 meets 99", "upgrade the older"});
}

TEST_F(LyingDestination, ThatHasNoTransferServiceIsNoAgent) {
    expect_refusal({.prepare =
                        [](v1::PrepareResponse&) {
                            return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
                        }},
                   {"is no Godwit agent of this protocol version"});
}

TEST_F(LyingDestination, CannotDrawOnTheTerminalWithItsError) {
    expect_refusal({.prepare =
                        [](v1::PrepareResponse&) {
                            return to_grpc(
                                absl::FailedPreconditionError(
                                    "no\n\x1b[2Jgodwit: migration done\r" + std::string(3000, 'x')),
                                untouched("REFUSED"));
                        }},
                   {"no??[2Jgodwit: migration done?"});
}

TEST_F(LyingDestination, WithAShortSessionTokenIsGivenUp) {
    expect_failure({.prepare =
                        [](v1::PrepareResponse& response) {
                            response.set_session_token("short");
                            return grpc::Status::OK;
                        }},
                   {"session token has a wrong length"});
}

TEST_F(LyingDestination, WhoseDataPortIsNoPortIsGivenUp) {
    expect_failure({.prepare =
                        [](v1::PrepareResponse& response) {
                            response.set_data_port(1 << 20);
                            return grpc::Status::OK;
                        }},
                   {"127.0.0.1"});
}

// --- greetings ------------------------------------------------------------------------------

TEST_F(LyingDestination, ThatNeverGreetsIsGivenUp) {
    std::vector<UniqueFd> held;
    expect_failure({.connection = [&](UniqueFd socket) { held.push_back(std::move(socket)); }},
                   {"did not answer on stream 0"});
}

TEST_F(LyingDestination, ThatGreetsWithOneByteAndNoMoreIsGivenUp) {
    std::vector<UniqueFd> held;
    expect_failure({.connection =
                        [&](UniqueFd socket) {
                            EXPECT_EQ(::write(socket.get(), "g", 1), 1);
                            held.push_back(std::move(socket));
                        }},
                   {"did not answer on stream 0"});
}

TEST_F(LyingDestination, ThatClosesInsteadOfGreetingIsGivenUp) {
    expect_failure({.connection = [](UniqueFd) {}}, {});
}

TEST_F(LyingDestination, ThatGreetsWithGarbageIsGivenUp) {
    std::vector<UniqueFd> held;
    expect_failure({.connection =
                        [&](UniqueFd socket) {
                            const std::vector<std::byte> bytes = noise(4096);
                            EXPECT_GT(::write(socket.get(), bytes.data(), bytes.size()), 0);
                            held.push_back(std::move(socket));
                        }},
                   {"magic"});
}

// --- while pages travel ---------------------------------------------------------------------

TEST_F(LyingDestination, ThatSendsGarbageIsGivenUp) {
    expect_failure(
        {.greeted = [](UrgentStream& urgent) { urgent.bytes.send(noise(4096)).IgnoreError(); }},
        {"connection to the destination was lost", "magic"});
}

TEST_F(LyingDestination, ThatAnnouncesAHugeBodyIsGivenUpBeforeAnythingIsAllocated) {
    expect_failure({.greeted =
                        [](UrgentStream& urgent) {
                            std::array<std::byte, kFrameHeaderBytes> header{};
                            encode_header({.kind = FrameKind::kVerifyResult,
                                           .body_bytes = 0xffffffff,
                                           .sequence = kFirstSequence},
                                          header);
                            urgent.bytes.send(header).IgnoreError();
                        }},
                   {"connection to the destination was lost", "4294967295"});
}

// Says of each frame of pages that it came damaged, as long as `more` says so.
std::function<bool(UrgentStream&, const Frame&)> damaging(std::function<bool()> more) {
    return [more = std::move(more)](UrgentStream& urgent, const Frame& frame) {
        if (frame.kind() != FrameKind::kPages || !more()) return false;
        const auto pages = decode_damaged_pages(frame.body, std::array<uint64_t, 1>{1u << 20});
        EXPECT_TRUE(pages.ok()) << pages.status();
        const DamagedBody damaged{
            .stream = frame.header.route.stream,
            .pages = {.block = pages->block, .chunk = pages->chunk, .pages = pages->present}};
        urgent.frames.send(FrameKind::kDamaged, damaged.encode()).IgnoreError();
        return true;
    };
}

TEST_F(LyingDestination, ToWhichAFrameCameDamagedIsSentItsPagesAgain) {
    std::atomic<int> left = 3;
    const FakeDestination liar({.frame = damaging([&] { return left > 0 && left-- > 0; })});
    const CommandResult result = migrate_to(liar);
    // It refuses in the end, as it has no QEMU.
    expect_at_source(source_, result, {.exit_code = 1, .outcome = "failed", .words = {}});
    const auto report = nlohmann::json::parse(result.out);
    EXPECT_EQ(report["damaged_frames"], 3) << report;
}

TEST_F(LyingDestination, ToWhichEverythingComesDamagedForEverIsGivenUp) {
    expect_failure({.frame = damaging([] { return true; })}, {});
}

TEST_F(LyingDestination, ThatNamesDamageOfAStreamThatThereIsNotIsGivenUp) {
    expect_failure(
        {.frame = on(FrameKind::kMarker,
                     [](UrgentStream& urgent) {
                         const DamagedBody damaged{.stream = 900, .pages = {.pages = {1}}};
                         urgent.frames.send(FrameKind::kDamaged, damaged.encode()).IgnoreError();
                     })},
        {"connection to the destination was lost", "stream 900 are damaged"});
}

TEST_F(LyingDestination, ThatAcknowledgesAStreamThatThereIsNotIsGivenUp) {
    expect_failure(
        {.frame = on(FrameKind::kMarker,
                     [](UrgentStream& urgent) {
                         const MarkerAckBody ack{.round = 0, .stream = 40000};
                         urgent.frames.send(FrameKind::kMarkerAck, ack.encode()).IgnoreError();
                     })},
        {"connection to the destination was lost", "marker-ack"});
}

TEST_F(LyingDestination, ThatAcknowledgesARoundThatHasNotBeenSentIsGivenUp) {
    expect_failure(
        {.greeted =
             [](UrgentStream& urgent) {
                 for (const uint16_t stream : {uint16_t{0}, uint16_t{1}}) {
                     const MarkerAckBody ack{.round = 4000000000, .stream = stream};
                     urgent.frames.send(FrameKind::kMarkerAck, ack.encode()).IgnoreError();
                 }
             }},
        {"connection to the destination was lost"});
}

TEST_F(LyingDestination, ThatAnswersVerifyWithoutAQuestionIsGivenUp) {
    expect_failure({.greeted =
                        [](UrgentStream& urgent) {
                            urgent.frames
                                .send(FrameKind::kVerifyResult, VerifyResultBody{}.encode())
                                .IgnoreError();
                        }},
                   {"unexpected frame from the destination"});
}

TEST_F(LyingDestination, ThatSaysResumedBeforeCommitDoesNotGetTheGuest) {
    expect_failure(
        {.greeted =
             [](UrgentStream& urgent) { urgent.frames.send(FrameKind::kResumed).IgnoreError(); }},
        {"connection to the destination was lost", "resumed"});
}

TEST_F(LyingDestination, ThatSaysLoadedBeforeItHasTheDeviceStateDoesNotGetTheGuest) {
    expect_failure(
        {.greeted =
             [](UrgentStream& urgent) { urgent.frames.send(FrameKind::kLoaded).IgnoreError(); }},
        {"connection to the destination was lost", "loaded"});
}

TEST_F(LyingDestination, ThatTurnsFramesRoundIsGivenUp) {
    expect_failure({.frame = on(FrameKind::kMarker,
                                [](UrgentStream& urgent) {
                                    urgent.frames.send(FrameKind::kCommit).IgnoreError();
                                })},
                   {"unexpected frame from the destination: commit"});
}

TEST_F(LyingDestination, ThatHangsUpInTheMiddleIsGivenUp) {
    expect_failure(
        {.frame = on(FrameKind::kMarker, [](UrgentStream& urgent) { urgent.bytes.shutdown(); })},
        {"connection to the destination was lost"});
}

// Its host is well and takes every byte, so no connection ends by itself.
TEST_F(LyingDestination, ThatTakesPagesAndNeverConfirmsThemIsGivenUp) {
    expect_failure({.frame = on(FrameKind::kMarker, [](UrgentStream&) {})},
                   {"has not confirmed what was sent on data stream", "no sign of life"});
}

TEST_F(LyingDestination, ThatAbortsIsQuotedWithoutItsControlCharacters) {
    expect_failure(
        {.frame = on(FrameKind::kMarker,
                     [](UrgentStream& urgent) {
                         const TextBody text{.text = "my \x1b[31mdisk\n is full"};
                         urgent.frames.send(FrameKind::kAbort, text.encode()).IgnoreError();
                     })},
        {"my ?[31mdisk? is full"});
}

// Such a string would keep the report, and the journal, from being read again.
TEST_F(LyingDestination, ThatAbortsInBytesThatAreNoTextIsQuotedAllTheSame) {
    expect_failure(
        {.frame = on(FrameKind::kMarker,
                     [](UrgentStream& urgent) {
                         const TextBody text{.text = "my disk \xff\xc3 is full"};
                         urgent.frames.send(FrameKind::kAbort, text.encode()).IgnoreError();
                     })},
        {"my disk ?? is full"});
}

// --- while the guest is frozen --------------------------------------------------------------

TEST_F(LyingDestination, ThatCannotLoadTheDeviceStateIsQuoted) {
    expect_failure(
        {.frame = on(FrameKind::kDeviceStateEnd,
                     [](UrgentStream& urgent) {
                         const TextBody text{.text = "no such device: frobnicator"};
                         urgent.frames.send(FrameKind::kLoadFailed, text.encode()).IgnoreError();
                     })},
        {"could not load the device state", "no such device: frobnicator"});
}

TEST_F(LyingDestination, ThatHangsUpWhileTheGuestIsFrozenIsGivenUp) {
    expect_failure({.frame = on(FrameKind::kDeviceStateEnd,
                                [](UrgentStream& urgent) { urgent.bytes.shutdown(); })},
                   {"connection to the destination was lost"});
}

TEST_F(LyingDestination, ThatSaysNothingWhileTheGuestIsFrozenIsGivenUp) {
    expect_failure({.frame = on(FrameKind::kDeviceStateEnd, [](UrgentStream&) {})},
                   {"saving and loading the device state took longer than"});
}

// --- after COMMIT ---------------------------------------------------------------------------

TEST_F(LyingDestination, ThatRefusesAfterCommitLeavesTheGuestAtTheSource) {
    expect_failure({}, {"the destination refused", "no QEMU here"});
}

TEST_F(LyingDestination, ThatAnswersCommitWithGarbageIsAskedUntilItSaysWhatBecameOfIt) {
    const FakeDestination liar(
        {.frame = on(FrameKind::kCommit,
                     [](UrgentStream& urgent) { urgent.bytes.send(noise(4096)).IgnoreError(); }),
         .fate = v1::INCOMING_STATE_REFUSED,
         .detail = "never\n\x1b[2Jran here"});
    expect_at_source(source_, migrate_to(liar),
                     {.exit_code = 1, .outcome = "failed", .words = {"never??[2Jran here"}});
}

// The copy that stands here may be the only whole one, until RESUMED is said.
TEST_F(LyingDestination, ThatSaysTheGuestIsLostOrLacksPagesDoesNotEndTheSourcesCopy) {
    v1::QueryResponse lost;
    lost.set_state(v1::INCOMING_STATE_UNKNOWN);
    lost.set_guest_gone(true);
    v1::QueryResponse lacking;
    lacking.set_state(v1::INCOMING_STATE_COMMITTED);
    lacking.set_draining(true);
    lacking.set_missing_pages(7);
    expect_failure(
        {.frame = on(FrameKind::kCommit, [](UrgentStream& urgent) { urgent.bytes.shutdown(); }),
         .detail = "it never ran here",
         .before_fate = {lost, lacking, lacking}},
        {"the destination refused: it never ran here"});
}

TEST_F(LyingDestination, ThatSaysItHasTheGuestAfterCommitIsBelieved) {
    const FakeDestination liar(
        {.frame = on(FrameKind::kCommit, [](UrgentStream& urgent) { urgent.bytes.shutdown(); }),
         .fate = v1::INCOMING_STATE_RESUMED});
    const CommandResult result = migrate_to(liar);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(json_of(result)["guest_at"], "destination");
    // Whoever has the guest now: a second one must never run here.
    expect_nothing_left(source_);
}

}  // namespace
}  // namespace godwit::testing
