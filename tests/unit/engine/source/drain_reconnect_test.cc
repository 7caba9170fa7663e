// Drain: what a destination's agent that was restarted is sent, and when.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>

#include "engine/handover/phases.h"
#include "engine/source/drain.h"
#include "godwit/v1/transfer.grpc.pb.h"
#include "tests/unit/engine/source/round_sender_fixture.h"

namespace godwit {
namespace {

constexpr uint32_t kSuccessorsGeneration = 7;
constexpr ChunkPages kOwed{.block = 0, .chunk = 0, .pages = {~uint64_t{0}, ~uint64_t{0}}};
constexpr PageIndex kOwedPages = 128;
constexpr PageIndex kFaults = 64;

// The agent of a guest for which COMMIT came and whose `cont` is not answered yet: it asks for the
// pages that `cont` waits for, one after the other, says RESUMED once it has them, and is sent the
// rest.
class Successor final : public v1::Transfer::Service {
  public:
    Successor() : listener_(TcpListener::bind("127.0.0.1", 0).value()) {
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
    }
    ~Successor() override { server_->Shutdown(); }

    [[nodiscard]] uint16_t port() const { return static_cast<uint16_t>(port_); }
    // Of frames that its phase did not allow; read it when the drain is over.
    [[nodiscard]] const std::vector<std::string>& unexpected() const { return unexpected_; }

    grpc::Status Reconnect(grpc::ServerContext*, const v1::ReconnectRequest*,
                           v1::ReconnectResponse* response) override {
        response->mutable_state()->set_state(v1::INCOMING_STATE_COMMITTED);
        response->mutable_state()->set_draining(true);
        response->set_session_token(std::string(SessionToken{}.size(), '\0'));
        response->set_data_port(listener_.port());
        response->set_generation(kSuccessorsGeneration);
        main_ = std::jthread([this] { serve(); });
        return grpc::Status::OK;
    }

  private:
    void serve() {
        auto acceptor =
            StreamAcceptor::create(listener_, {.migration_id = frame_migration_id("loopback"),
                                               .generation = kSuccessorsGeneration,
                                               .stream_count = kStreams + 1,
                                               .token = SessionToken{}})
                .value();
        std::vector<AcceptedStream> streams(kStreams + 1);
        for (int i = 0; i <= kStreams; ++i) {
            auto stream = acceptor.accept(Clock::system().now() + kRoundLimit);
            ASSERT_TRUE(stream.ok()) << stream.status();
            const uint16_t index = stream->route.stream;
            streams[index] = *std::move(stream);
        }
        FrameWriter urgent(*streams.back().channel, streams.back().route);
        say(urgent, FrameKind::kMissing, encode_chunk_pages(std::span(&kOwed, 1)));
        say(urgent, FrameKind::kMissingEnd, {});
        ask(urgent);
        std::vector<std::jthread> readers;
        for (AcceptedStream& stream : streams) readers.emplace_back([&] { read(stream, urgent); });
    }

    static void say(FrameWriter& urgent, FrameKind kind, std::span<const std::byte> body) {
        EXPECT_TRUE(urgent.send(kind, body).ok()) << frame_kind_name(kind);
    }

    void ask(FrameWriter& urgent) {
        say(urgent, FrameKind::kPageRequest, PageRequestBody{.page = asked_++}.encode());
    }

    void read(AcceptedStream& stream, FrameWriter& urgent) {
        const auto kind = stream.route.stream == kStreams ? StreamKind::kUrgent : StreamKind::kData;
        FrameReader reader(*stream.channel, stream.route);
        while (true) {
            const auto frame = reader.next();
            if (!frame.ok()) return;
            const std::lock_guard lock(mutex_);
            if (const auto next = after(phase_, kind, frame->kind()))
                phase_ = *next;
            else
                unexpected_.push_back(
                    fmt::format("{} while {}", frame_kind_name(frame->kind()), phase_name(phase_)));
            const bool running = phase_ == DestinationPhase::kDraining;
            if (!running && (asked_ == kFaults || !unexpected_.empty())) {
                phase_ = DestinationPhase::kDraining;
                say(urgent, FrameKind::kResumed, {});
            } else if (frame->kind() == FrameKind::kFaultPages && !running) {
                ask(urgent);
            }
            if (frame->kind() == FrameKind::kMarker && ++markers_ == kStreams + 1)
                say(urgent, FrameKind::kDrained, {});
        }
    }

    TcpListener listener_;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
    std::mutex mutex_;
    DestinationPhase phase_ = DestinationPhase::kCommittedServing;
    std::vector<std::string> unexpected_;
    PageIndex asked_ = 0;
    int markers_ = 0;
    std::jthread main_;
};

class DrainReconnect : public RoundSenderTest {};

// It is known that the guest runs, but the agent that said so is gone, and its successor does not
// know yet: pages that nobody waits for would break the connection that brings the others.
TEST_F(DrainReconnect, PushesToASuccessorOnceThatHasSaidResumed) {
    for (PageIndex page = 0; page < kOwedPages; ++page) write_page(0, page, page + 1, true);
    Successor successor;
    EventLog log;
    auto drain = Drain::create({.migration_id = "loopback",
                                .destination = {.host = "127.0.0.1", .port = successor.port()},
                                .streams = kStreams,
                                .blocks = blocks_,
                                .log = &log})
                     .value();
    destination_.emplace(std::vector<Bytes>{kFirstBlock, kSecondBlock});
    streams_ = &destination_->connect(signals_, kStreams);
    drain->set_missing(empty_set(), empty_set());
    drain->serve(*streams_);
    signals_.update([](SourceSignals::Seen& seen) {
        seen.resumed_at = Clock::system().now();
        seen.connection = absl::UnavailableError("the agent is gone");
    });
    const Drain::Outcome outcome =
        drain->run({.streams = streams_, .signals = &signals_}, [](MonotonicTime) {}, {});
    EXPECT_EQ(outcome.end, Drain::End::kDrained) << outcome.detail;
    EXPECT_THAT(successor.unexpected(), ::testing::IsEmpty());
}

}  // namespace
}  // namespace godwit
