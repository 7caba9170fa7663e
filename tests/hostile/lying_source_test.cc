// Sources that break the protocol. The destination cleans up all that it made for them, and its own
// guest runs on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/hostile/fake_source.h"
#include "transport/codec/chunk_codec.h"
#include "transport/control/error_detail.h"
#include "transport/frame/bodies.h"
#include "transport/frame/frame_header.h"
#include "transport/frame/pages_body.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

class LyingSource : public ::testing::Test {
  protected:
    // A guest that has nothing to do with it.
    void SetUp() override { start_guest(destination_, small_guest("bystander")); }
    void TearDown() override {
        expect_nothing_left(destination_, "stranger");
        expect_alive_and_well(destination_, "bystander", 100);
    }

    void expect_refused(const char* reason, const std::string& words) {
        const grpc::Status status = liar_.prepare();
        EXPECT_FALSE(status.ok());
        EXPECT_THAT(status.error_message(), HasSubstr(words));
        const v1::ErrorDetail detail = detail_of(status);
        EXPECT_EQ(detail.reason(), reason);
        EXPECT_EQ(detail.guest_at(), v1::GUEST_AT_SOURCE);
        EXPECT_TRUE(detail.retry_safe());
    }

    // Prepares, greets on every stream, lies; the destination gives up by itself.
    void expect_given_up(const std::function<void(std::vector<FakeStream>&)>& lie) {
        ASSERT_TRUE(liar_.prepare().ok());
        std::vector<FakeStream> streams = liar_.open_all();
        lie(streams);
        EXPECT_TRUE(eventually(std::chrono::seconds(20),
                               [&] { return liar_.fate() == v1::INCOMING_STATE_REFUSED; }))
            << "state " << liar_.fate();
    }

    // A stranger at the data port is dropped, and the true source still gets in.
    void expect_dropped(const std::function<void(TcpChannel&)>& lie) {
        ASSERT_TRUE(liar_.prepare().ok());
        {
            const std::unique_ptr<TcpChannel> stranger = liar_.connect();
            ASSERT_TRUE(stranger);
            lie(*stranger);
        }
        const std::vector<FakeStream> streams = liar_.open_all();
        EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_WAITING);
        EXPECT_TRUE(liar_.abort().ok());
        EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_REFUSED);
    }

    TestAgent destination_;
    FakeSource liar_{destination_};
};

PagesBody one_page(BlockIndex block, ChunkIndex chunk) {
    PagesBody pages{.block = block, .chunk = chunk};
    pages.present[0] = 1;
    pages.zero[0] = 1;
    return pages;
}

void send_pages(FakeStream& stream, const PagesBody& pages,
                std::span<const std::byte> payload = {}) {
    std::vector<std::byte> body(kPagesHeadBytes);
    encode_pages_head(pages, std::span(body).first<kPagesHeadBytes>());
    body.insert(body.end(), payload.begin(), payload.end());
    EXPECT_TRUE(stream.writer->send(FrameKind::kPages, body).ok());
}

std::vector<std::byte> garbage(size_t size) {
    std::vector<std::byte> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + 7);
    return bytes;
}

// --- Prepare --------------------------------------------------------------------------------

TEST_F(LyingSource, OfAnotherProtocolVersionIsToldBothNumbers) {
    liar_.request().set_protocol_version(99);
    expect_refused(
        "PROTOCOL_VERSION",
        "Transfer protocol 99 meets " + std::to_string(kProtocolVersion) + ": upgrade the older");
}

TEST_F(LyingSource, CannotNameAMigrationAfterAPath) {
    liar_.request().set_migration_id("../../etc/passwd");
    expect_refused("BAD_REQUEST", "Malformed Prepare request");
}

TEST_F(LyingSource, MustHaveAtLeastOneStream) {
    liar_.request().set_streams(0);
    expect_refused("BAD_REQUEST", "Malformed Prepare request");
}

TEST_F(LyingSource, CannotAskForThousandsOfStreams) {
    liar_.request().set_streams(4'000'000'000);
    expect_refused("BAD_REQUEST", "Malformed Prepare request");
}

TEST_F(LyingSource, CannotPassOptionsToQemuInTheMachineType) {
    liar_.request().mutable_spec()->set_machine("q35,dumpdtb=/etc/passwd");
    expect_refused("BAD_REQUEST", "machine");
}

TEST_F(LyingSource, WithAnotherRamLayoutIsRefusedAndItsQemuIsGone) {
    liar_.request().mutable_blocks(0)->set_size_bytes(uint64_t{1} << 40);
    expect_refused("RAM_LAYOUT", "RAM blocks differ");
}

TEST_F(LyingSource, WithAnotherKernelIsToldToCopyIt) {
    for (v1::BootFile& file : *liar_.request().mutable_boot_files())
        if (file.path() == program("guest.elf")) file.set_hash(std::string(32, '0'));
    expect_refused("BOOT_FILE_DIFFERS", "differs from the source's file of that name");
}

TEST_F(LyingSource, ThatDoesNotSayWhatIsInItsKernelIsRefused) {
    liar_.request().clear_boot_files();
    expect_refused("BOOT_FILE_DIFFERS", "does not say what is in its");
}

// Read to its end, this would take for ever.
TEST_F(LyingSource, CannotHaveTheAgentReadAFileOfItsOwnChoice) {
    v1::BootFile& file = *liar_.request().add_boot_files();
    file.set_path("/dev/zero");
    liar_.request().set_protocol_version(kProtocolVersion);
    ASSERT_TRUE(liar_.prepare().ok());
}

TEST_F(LyingSource, WhoseVmIsLargerThanThisHostGetsNoRoom) {
    liar_.request().mutable_spec()->set_memory_bytes(uint64_t{1} << 46);
    expect_refused("NO_ROOM", "No room");
}

TEST_F(LyingSource, ThatTouchedMoreThanThereIsGetsNoRoom) {
    liar_.request().set_touched_bytes(std::numeric_limits<uint64_t>::max());
    expect_refused("NO_ROOM", "No room");
}

TEST_F(LyingSource, CannotTakeTheNameOfAVmThatIsHere) {
    liar_.request().mutable_spec()->set_name("bystander");
    expect_refused("NAME_TAKEN", "already has a VM named bystander");
}

TEST_F(LyingSource, CannotPrepareTheSameMigrationTwice) {
    ASSERT_TRUE(liar_.prepare().ok());
    expect_refused("MIGRATION_EXISTS", "was here before");
    EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_WAITING);
    EXPECT_TRUE(liar_.abort().ok());
    expect_refused("MIGRATION_EXISTS", "was here before");
}

TEST_F(LyingSource, WhoseReasonHasLinesOfItsOwnWritesNoneIntoTheLog) {
    ASSERT_TRUE(liar_.prepare().ok());
    EXPECT_TRUE(liar_.abort("over\n2026-01-01T00:00:00.000 godwitd critical \x1b[31mthe end").ok());
    EXPECT_THAT(destination_.log(),
                HasSubstr("over?2026-01-01T00:00:00.000 godwitd critical ?[31m"));
    EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_REFUSED);
}

// --- the data port --------------------------------------------------------------------------

TEST_F(LyingSource, ThatNeverConnectsIsGivenUp) { ASSERT_TRUE(liar_.prepare().ok()); }

TEST_F(LyingSource, StrangersWhoSayNothingAreDropped) {
    expect_dropped([](TcpChannel&) {});
}

TEST_F(LyingSource, StrangersWithAWrongTokenAreDroppedWithoutAnAnswer) {
    expect_dropped([&](TcpChannel& stranger) {
        SessionToken wrong = liar_.token();
        wrong[31] ^= std::byte{1};
        const absl::Status greeted = client_hello(stranger, liar_.route(0), wrong,
                                                  Clock::system().now() + std::chrono::seconds(10));
        EXPECT_EQ(greeted.code(), absl::StatusCode::kPermissionDenied) << greeted;
    });
}

TEST_F(LyingSource, StrangersOfAnotherMigrationAreDroppedWithoutAnAnswer) {
    expect_dropped([&](TcpChannel& stranger) {
        FrameRoute route = liar_.route(0);
        route.migration_id = frame_migration_id("another");
        const absl::Status greeted = client_hello(stranger, route, liar_.token(),
                                                  Clock::system().now() + std::chrono::seconds(10));
        EXPECT_EQ(greeted.code(), absl::StatusCode::kPermissionDenied) << greeted;
    });
}

TEST_F(LyingSource, StrangersWhoSendGarbageAreDropped) {
    expect_dropped([](TcpChannel& stranger) {
        stranger.send(garbage(100'000)).IgnoreError();
        std::array<std::byte, 1> byte{};
        EXPECT_FALSE(stranger.receive(byte).ok());
    });
}

TEST_F(LyingSource, WithATokenButStreamsThatNobodyAskedForIsDropped) {
    expect_dropped([&](TcpChannel& stranger) {
        const absl::Status greeted = client_hello(stranger, liar_.route(63), liar_.token(),
                                                  Clock::system().now() + std::chrono::seconds(10));
        EXPECT_FALSE(greeted.ok());
    });
}

TEST_F(LyingSource, CannotUseATokenTwiceForTheSameStream) {
    ASSERT_TRUE(liar_.prepare().ok());
    std::vector<FakeStream> streams;
    streams.push_back(liar_.open(0));
    {
        const std::unique_ptr<TcpChannel> second = liar_.connect();
        ASSERT_TRUE(second);
        EXPECT_FALSE(client_hello(*second, liar_.route(0), liar_.token(),
                                  Clock::system().now() + std::chrono::seconds(10))
                         .ok());
    }
    for (const uint16_t stream : {uint16_t{1}, uint16_t{2}}) streams.push_back(liar_.open(stream));
    EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_WAITING);
    // Once all streams are there the port is closed to whoever knows the token, too.
    const auto late = connect_tcp("127.0.0.1", static_cast<uint16_t>(liar_.response().data_port()),
                                  Clock::system().now() + std::chrono::seconds(10));
    if (late.ok()) {
        EXPECT_FALSE(client_hello(**late, liar_.route(0), liar_.token(),
                                  Clock::system().now() + std::chrono::seconds(2))
                         .ok());
    }
    EXPECT_TRUE(liar_.abort().ok());
}

TEST_F(LyingSource, IsNotKeptOutByAThousandConnectionsThatSayNothing) {
    ASSERT_TRUE(liar_.prepare().ok());
    std::vector<std::unique_ptr<TcpChannel>> crowd;
    for (int i = 0; i < 1000; ++i) {
        auto one = connect_tcp("127.0.0.1", static_cast<uint16_t>(liar_.response().data_port()),
                               Clock::system().now() + std::chrono::seconds(10));
        if (!one.ok()) break;  // the listener's queue is full: no harm to anybody
        crowd.push_back(*std::move(one));
    }
    EXPECT_GT(crowd.size(), 100u);
    const std::vector<FakeStream> streams = liar_.open_all();
    EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_WAITING);
    EXPECT_TRUE(liar_.abort().ok());
}

// --- pages ----------------------------------------------------------------------------------

TEST_F(LyingSource, WithPagesOfABlockThatThereIsNotIsGivenUp) {
    expect_given_up([](auto& streams) { send_pages(streams[0], one_page(7, 0)); });
}

TEST_F(LyingSource, WithPagesOutsideRamIsGivenUp) {
    expect_given_up([](auto& streams) { send_pages(streams[1], one_page(0, 128)); });
}

TEST_F(LyingSource, WithPagesFarOutsideRamIsGivenUp) {
    expect_given_up([](auto& streams) {
        send_pages(streams[0], one_page(0, std::numeric_limits<uint64_t>::max() / kChunkBytes));
    });
}

TEST_F(LyingSource, WithPagesThatDoNotDecompressIsGivenUp) {
    expect_given_up([](auto& streams) {
        PagesBody pages{.codec = PageCodec::kLz4, .raw_bytes = 4 * kPageBytes};
        pages.present[0] = 0xf;
        send_pages(streams[0], pages, garbage(kPageBytes));
    });
}

TEST_F(LyingSource, WithPagesThatAreNoZstdFrameIsGivenUp) {
    expect_given_up([](auto& streams) {
        PagesBody pages{.codec = PageCodec::kZstd, .raw_bytes = 4 * kPageBytes};
        pages.present[0] = 0xf;
        send_pages(streams[0], pages, garbage(kPageBytes));
    });
}

// zstd, and four pages are announced: what comes is a frame of many more.
TEST_F(LyingSource, WithAFewPagesThatUnpackToMoreIsGivenUp) {
    expect_given_up([](auto& streams) {
        PagesBody pages{.codec = PageCodec::kZstd, .raw_bytes = 4 * kPageBytes};
        pages.present[0] = 0xf;
        ChunkCodec codec;
        std::vector<std::byte> packed(kChunkBytes);
        const std::vector<std::byte> much(kChunkBytes);
        const auto size = codec.pack(PageCodec::kZstd, much, packed);
        ASSERT_TRUE(size.has_value());
        packed.resize(*size);
        send_pages(streams[0], pages, packed);
    });
}

TEST_F(LyingSource, ThatAnnouncesAHugeBodyIsGivenUp) {
    expect_given_up([&](auto& streams) {
        std::array<std::byte, kFrameHeaderBytes> header{};
        encode_header({.kind = FrameKind::kPages,
                       .route = liar_.route(0),
                       .body_bytes = 0xffffffff,
                       .sequence = kFirstSequence},
                      header);
        EXPECT_TRUE(streams[0].channel->send(header).ok());
    });
}

TEST_F(LyingSource, ThatSendsGarbageOnADataStreamIsGivenUp) {
    expect_given_up([](auto& streams) { streams[0].channel->send(garbage(9000)).IgnoreError(); });
}

TEST_F(LyingSource, ThatSendsControlFramesOnADataStreamIsGivenUp) {
    expect_given_up(
        [](auto& streams) { EXPECT_TRUE(streams[0].writer->send(FrameKind::kCommit).ok()); });
}

TEST_F(LyingSource, ThatHangsUpInTheMiddleIsGivenUp) {
    expect_given_up([](auto& streams) {
        send_pages(streams[0], one_page(0, 3));
        streams.clear();
    });
}

TEST_F(LyingSource, WhoseDataStreamEndsTooEarlyIsGivenUpWhenTheRestEnds) {
    expect_given_up([](auto& streams) {
        streams[0] = {};
        EXPECT_TRUE(
            streams[1].writer->send(FrameKind::kMarker, MarkerBody{.round = 0}.encode()).ok());
        streams.back() = {};
    });
}

// A frame whose payload is not what its header says.
void send_damaged(FakeStream& stream, ChunkIndex chunk) {
    const auto buffer = FrameBuffer::create();
    ASSERT_TRUE(buffer.ok());
    PagesBody pages{.chunk = chunk, .raw_bytes = 2 * kPageBytes};
    pages.present[0] = 0b110;
    encode_pages_head(pages, buffer->body().first<kPagesHeadBytes>());
    ASSERT_TRUE(
        stream.writer
            ->send_async(*buffer, FrameKind::kPages, kPagesHeadBytes + 2 * kPageBytes, 12345)
            .ok());
    ASSERT_TRUE(stream.writer->wait().ok());
}

TEST_F(LyingSource, WhoseFrameIsDamagedIsToldWhichPagesToSendAgainBeforeTheRoundIsConfirmed) {
    ASSERT_TRUE(liar_.prepare().ok());
    std::vector<FakeStream> streams = liar_.open_all();
    send_damaged(streams[1], 5);
    ASSERT_TRUE(streams[1].writer->send(FrameKind::kMarker, MarkerBody{.round = 0}.encode()).ok());
    const auto told = streams.back().reader->next();
    ASSERT_TRUE(told.ok()) << told.status();
    ASSERT_EQ(told->kind(), FrameKind::kDamaged);
    const auto damaged = DamagedBody::decode(told->body, std::array<uint64_t, 1>{1u << 20});
    ASSERT_TRUE(damaged.ok()) << damaged.status();
    EXPECT_EQ(damaged->stream, 1);
    EXPECT_EQ(damaged->pages.chunk, 5u);
    EXPECT_EQ(damaged->pages.pages[0], 0b110u);
    const auto confirmed = streams.back().reader->next();
    ASSERT_TRUE(confirmed.ok()) << confirmed.status();
    EXPECT_EQ(confirmed->kind(), FrameKind::kMarkerAck);
    EXPECT_EQ(liar_.fate(), v1::INCOMING_STATE_WAITING);
    EXPECT_TRUE(liar_.abort().ok());
    EXPECT_THAT(destination_.log(), HasSubstr("frame 1 of stream 1 came damaged: pages 2561-2562"));
}

TEST_F(LyingSource, WhoseFramesAreAllDamagedIsGivenUpAtTheTenth) {
    expect_given_up([](auto& streams) {
        for (int i = 0; i < 10; ++i) {
            send_damaged(streams[0], i);
            // A marker is no proof that the link is any better.
            EXPECT_TRUE(
                streams[0].writer->send(FrameKind::kMarker, MarkerBody{.round = 0}.encode()).ok());
        }
    });
    EXPECT_THAT(destination_.log(), HasSubstr("10 frames in a row came damaged on stream 0"));
}

TEST_F(LyingSource, WhoseFrameDoesNotEvenSayWhosePagesItHadIsGivenUp) {
    expect_given_up([](auto& streams) {
        const auto buffer = FrameBuffer::create();
        ASSERT_TRUE(buffer.ok());
        ASSERT_TRUE(
            streams[0]
                .writer->send_async(*buffer, FrameKind::kPages, kPagesHeadBytes + kPageBytes, 12345)
                .ok());
        ASSERT_TRUE(streams[0].writer->wait().ok());
    });
}

// The destination learns to catch faults, and drops two pages of chunk 4.
void punch_two_pages(std::vector<FakeStream>& streams) {
    ASSERT_TRUE(streams.back().writer->send(FrameKind::kPostcopyBegin).ok());
    const absl::StatusOr<Frame> ready = streams.back().reader->next();
    ASSERT_TRUE(ready.ok()) << ready.status();
    ASSERT_EQ(ready->kind(), FrameKind::kPostcopyReady);
    ChunkPages stale{.block = 0, .chunk = 4};
    stale.pages[0] = 0b11;
    EXPECT_TRUE(
        streams[0].writer->send(FrameKind::kPunch, encode_chunk_pages(std::span(&stale, 1))).ok());
}

TEST_F(LyingSource, ThatSendsAPageWhichIsToStayMissingIsGivenUp) {
    liar_.request().set_postcopy(v1::POSTCOPY_USE_NEEDED);
    expect_given_up([](auto& streams) {
        punch_two_pages(streams);
        send_pages(streams[0], one_page(0, 4));
    });
    EXPECT_THAT(destination_.log(), HasSubstr("that were to stay missing"));
}

TEST_F(LyingSource, ThatSendsADeltaOfWhatMayBePunchedIsGivenUp) {
    liar_.request().set_postcopy(v1::POSTCOPY_USE_NEEDED);
    expect_given_up([](auto& streams) {
        punch_two_pages(streams);
        PagesBody pages{.chunk = 4, .raw_bytes = kPageBytes};
        pages.present[0] = 0b100;
        pages.delta = pages.present;
        send_pages(streams[0], pages, garbage(kPageBytes));
    });
}

TEST_F(LyingSource, MaySendOtherPagesOfAChunkThatWasPunched) {
    liar_.request().set_postcopy(v1::POSTCOPY_USE_NEEDED);
    ASSERT_TRUE(liar_.prepare().ok());
    std::vector<FakeStream> streams = liar_.open_all();
    punch_two_pages(streams);
    PagesBody pages{.chunk = 4, .raw_bytes = kPageBytes};
    pages.present[0] = 0b100;
    send_pages(streams[0], pages, garbage(kPageBytes));
    ASSERT_TRUE(streams[0].writer->send(FrameKind::kMarker, MarkerBody{.round = 0}.encode()).ok());
    const auto confirmed = streams.back().reader->next();
    ASSERT_TRUE(confirmed.ok()) << confirmed.status();
    EXPECT_EQ(confirmed->kind(), FrameKind::kMarkerAck);
    EXPECT_TRUE(liar_.abort().ok());
}

// --- the urgent stream ----------------------------------------------------------------------

TEST_F(LyingSource, ThatCommitsBeforeLoadedDoesNotStartAGuest) {
    expect_given_up(
        [](auto& streams) { EXPECT_TRUE(streams.back().writer->send(FrameKind::kCommit).ok()); });
}

TEST_F(LyingSource, ThatTurnsFramesRoundIsGivenUp) {
    expect_given_up(
        [](auto& streams) { EXPECT_TRUE(streams.back().writer->send(FrameKind::kResumed).ok()); });
}

TEST_F(LyingSource, WithLessDeviceStateThanItSaysIsGivenUp) {
    expect_given_up([](auto& streams) {
        FrameWriter& urgent = *streams.back().writer;
        EXPECT_TRUE(urgent.send(FrameKind::kDeviceState, garbage(100)).ok());
        EXPECT_TRUE(urgent
                        .send(FrameKind::kDeviceStateEnd,
                              DeviceStateEndBody{.total_bytes = uint64_t{1} << 60}.encode())
                        .ok());
    });
}

TEST_F(LyingSource, WhoseDeviceStateIsGarbageIsToldThatItDidNotLoad) {
    expect_given_up([](auto& streams) {
        FakeStream& urgent = streams.back();
        EXPECT_TRUE(urgent.writer->send(FrameKind::kDeviceState, garbage(5000)).ok());
        EXPECT_TRUE(
            urgent.writer
                ->send(FrameKind::kDeviceStateEnd, DeviceStateEndBody{.total_bytes = 5000}.encode())
                .ok());
        const absl::StatusOr<Frame> answer = urgent.reader->next();
        ASSERT_TRUE(answer.ok()) << answer.status();
        EXPECT_EQ(answer->kind(), FrameKind::kLoadFailed);
        streams.clear();
    });
}

TEST_F(LyingSource, ThatAsksToVerifyRamThatThereIsNotIsGivenUp) {
    expect_given_up([](auto& streams) {
        const VerifyChunksBody question{.block = 3, .first_chunk = 1u << 30, .hashes = {Hash128{}}};
        EXPECT_TRUE(streams.back().writer->send(FrameKind::kVerifyChunks, question.encode()).ok());
    });
}

}  // namespace
}  // namespace godwit::testing
