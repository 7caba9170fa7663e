// A source without a guest, which says to a real destination whatever a test wants.
#pragma once

#include <memory>
#include <string>

#include "godwit/v1/transfer.grpc.pb.h"
#include "tests/harness/agent.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/handshake.h"
#include "transport/stream/tcp_channel.h"

namespace godwit::testing {

inline constexpr uint16_t kDataStreams = 2;

// A stream that has greeted, with its framing.
struct FakeStream {
    std::unique_ptr<TcpChannel> channel;
    std::unique_ptr<FrameWriter> writer;
    std::unique_ptr<FrameReader> reader;
};

class FakeSource {
  public:
    // For a VM named "stranger", which `to` could well run.
    explicit FakeSource(TestAgent& to);

    // What prepare() will ask for.
    [[nodiscard]] v1::PrepareRequest& request() { return request_; }
    // Errors: the destination's. Fills response().
    grpc::Status prepare();
    [[nodiscard]] const v1::PrepareResponse& response() const { return response_; }

    // A connection to the data port that has said nothing yet.
    std::unique_ptr<TcpChannel> connect();
    [[nodiscard]] FrameRoute route(uint16_t stream) const;
    [[nodiscard]] SessionToken token() const;
    // Greets as it should be done.
    FakeStream open(uint16_t stream);
    // All of them; the last is the urgent one.
    std::vector<FakeStream> open_all();

    v1::IncomingState fate();
    grpc::Status abort(const std::string& reason = "the test is over");

  private:
    std::unique_ptr<v1::Transfer::Stub> api_;
    std::string host_;
    v1::PrepareRequest request_;
    v1::PrepareResponse response_;
};

}  // namespace godwit::testing
