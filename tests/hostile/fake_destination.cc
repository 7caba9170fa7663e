#include "tests/hostile/fake_destination.h"

#include <fmt/format.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "transport/frame/bodies.h"

namespace godwit::testing {
namespace {

constexpr std::byte kTokenByte{0x5a};

}  // namespace

FakeDestination::FakeDestination(Lies lies) : lies_(std::move(lies)), wakeup_(*Wakeup::create()) {
    listener_.emplace(*TcpListener::bind("127.0.0.1", 0));
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = fmt::format("127.0.0.1:{}", port);
}

FakeDestination::~FakeDestination() {
    wakeup_.notify();
    {
        const std::lock_guard lock(mutex_);
        for (AcceptedStream& stream : streams_) stream.channel->shutdown();
    }
    server_->Shutdown(std::chrono::system_clock::now());
    if (main_.joinable()) main_.join();
}

grpc::Status FakeDestination::Prepare(grpc::ServerContext*, const v1::PrepareRequest* request,
                                      v1::PrepareResponse* response) {
    HelloExpectation expected{.migration_id = frame_migration_id(request->migration_id()),
                              .stream_count = static_cast<uint16_t>(request->streams() + 1)};
    expected.token.fill(kTokenByte);
    response->set_session_token(std::string(expected.token.size(), static_cast<char>(kTokenByte)));
    response->set_data_port(listener_->port());
    if (lies_.prepare)
        if (const grpc::Status status = lies_.prepare(*response); !status.ok()) return status;
    main_ =
        std::jthread([this, expected] { lies_.connection ? take_connections() : serve(expected); });
    return grpc::Status::OK;
}

grpc::Status FakeDestination::Abort(grpc::ServerContext*, const v1::AbortRequest*,
                                    v1::AbortResponse*) {
    aborted_ = true;
    return grpc::Status::OK;
}

grpc::Status FakeDestination::Query(grpc::ServerContext*, const v1::QueryRequest*,
                                    v1::QueryResponse* response) {
    response->set_state(v1::INCOMING_STATE_WAITING);
    if (!committed_) return grpc::Status::OK;
    const size_t index = answered_++;
    if (index < lies_.before_fate.size()) {
        *response = lies_.before_fate[index];
    } else {
        response->set_state(lies_.fate);
        response->set_detail(lies_.detail);
    }
    return grpc::Status::OK;
}

void FakeDestination::take_connections() {
    while (wait_readable(listener_->fd(), wakeup_.fd(), std::nullopt).ok()) {
        absl::StatusOr<UniqueFd> socket = listener_->try_accept();
        if (socket.ok() && socket->valid()) lies_.connection(*std::move(socket));
    }
}

void FakeDestination::serve(HelloExpectation expected) {
    absl::StatusOr<StreamAcceptor> acceptor = StreamAcceptor::create(*listener_, expected);
    if (!acceptor.ok()) return;
    std::vector<AcceptedStream> accepted(expected.stream_count);
    for (uint16_t i = 0; i < expected.stream_count; ++i) {
        absl::StatusOr<AcceptedStream> stream =
            acceptor->accept(MonotonicTime::max(), wakeup_.fd());
        if (!stream.ok()) return;
        accepted[stream->route.stream] = *std::move(stream);
    }
    {
        const std::lock_guard lock(mutex_);
        streams_ = std::move(accepted);
    }
    FrameWriter frames(*streams_.back().channel, streams_.back().route);
    UrgentStream urgent{frames, *streams_.back().channel};
    if (lies_.greeted) lies_.greeted(urgent);
    std::vector<std::jthread> readers;
    for (AcceptedStream& stream : streams_) readers.emplace_back([&] { read(stream, urgent); });
}

void FakeDestination::read(AcceptedStream& stream, UrgentStream& urgent) {
    FrameReader reader(*stream.channel, stream.route);
    while (true) {
        const absl::StatusOr<Frame> frame = reader.next();
        if (!frame.ok()) return;
        if (frame->kind() == FrameKind::kCommit) committed_ = true;
        if (lies_.frame && lies_.frame(urgent, *frame)) continue;
        answer(urgent, stream, *frame);
    }
}

void FakeDestination::answer(UrgentStream& urgent, const AcceptedStream& stream,
                             const Frame& frame) {
    // A source that has hung up gets no answer.
    if (frame.kind() == FrameKind::kMarker) {
        const absl::StatusOr<MarkerBody> marker = MarkerBody::decode(frame.body);
        ASSERT_TRUE(marker.ok());
        const MarkerAckBody ack{.round = marker->round, .stream = stream.route.stream};
        urgent.frames.send(FrameKind::kMarkerAck, ack.encode()).IgnoreError();
    }
    if (frame.kind() == FrameKind::kDeviceStateEnd)
        urgent.frames.send(FrameKind::kLoaded).IgnoreError();
    if (frame.kind() == FrameKind::kCommit)
        urgent.frames.send(FrameKind::kRefused, TextBody{.text = "no QEMU here"}.encode())
            .IgnoreError();
}

}  // namespace godwit::testing
