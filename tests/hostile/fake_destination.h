// A destination without a QEMU, which keeps the protocol except where a test makes it lie.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/wait.h"
#include "godwit/v1/transfer.grpc.pb.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/stream_acceptor.h"
#include "transport/stream/tcp_listener.h"

namespace godwit::testing {

// The urgent stream, for a lie to write to.
struct UrgentStream {
    FrameWriter& frames;
    TcpChannel& bytes;  // past the framing
};

struct Lies {
    // In place of the answer to Prepare, or, when it returns ok, a change of the honest one.
    std::function<grpc::Status(v1::PrepareResponse&)> prepare;
    // Takes every connection to the data port as it comes; nobody is greeted.
    std::function<void(UniqueFd)> connection;
    // Called once all streams have greeted.
    std::function<void(UrgentStream&)> greeted;
    // Called for each frame, of whatever stream, before it is dealt with; true: it is dealt with.
    std::function<bool(UrgentStream&, const Frame&)> frame;
    // What Query answers after COMMIT; before it: WAITING.
    v1::IncomingState fate = v1::INCOMING_STATE_REFUSED;
    std::string detail;                          // the same's
    std::vector<v1::QueryResponse> before_fate;  // what it answers first after COMMIT, one each
};

// Honestly it acknowledges markers, says LOADED when the device state has come, and answers COMMIT
// with REFUSED.
class FakeDestination final : public v1::Transfer::Service {
  public:
    explicit FakeDestination(Lies lies);
    ~FakeDestination() override;

    [[nodiscard]] const std::string& address() const { return address_; }
    [[nodiscard]] bool was_aborted() const { return aborted_; }

    grpc::Status Prepare(grpc::ServerContext*, const v1::PrepareRequest* request,
                         v1::PrepareResponse* response) override;
    grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest*, v1::AbortResponse*) override;
    grpc::Status Query(grpc::ServerContext*, const v1::QueryRequest*,
                       v1::QueryResponse* response) override;

  private:
    void serve(HelloExpectation expected);
    void take_connections();
    void read(AcceptedStream& stream, UrgentStream& urgent);
    void answer(UrgentStream& urgent, const AcceptedStream& stream, const Frame& frame);

    const Lies lies_;
    Wakeup wakeup_;
    std::optional<TcpListener> listener_;
    std::string address_;
    std::atomic<bool> aborted_{false};
    std::atomic<bool> committed_{false};
    std::atomic<size_t> answered_{0};  // since then
    std::mutex mutex_;
    std::vector<AcceptedStream> streams_;  // guarded by mutex_ while it grows
    std::unique_ptr<grpc::Server> server_;
    std::jthread main_;
};

}  // namespace godwit::testing
