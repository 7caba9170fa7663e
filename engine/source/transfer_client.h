// TransferClient: the calls of one agent to another (transfer.proto).
#pragma once

#include <memory>

#include "engine/base/status.h"
#include "godwit/v1/transfer.grpc.pb.h"
#include "transport/control/peer.h"

namespace godwit {

// Thread-safe. Every call has a deadline.
class TransferClient {
  public:
    explicit TransferClient(HostPort peer);

    // `untouched` tells whether an error came before anything was touched at the destination.
    // Errors: Unavailable (unreachable), and the destination's own words.
    absl::StatusOr<v1::PrepareResponse> prepare(const v1::PrepareRequest& request, Duration limit,
                                                bool& untouched);
    absl::Status abort(const std::string& migration_id, const std::string& reason);
    absl::StatusOr<v1::QueryResponse> query(const std::string& migration_id);
    absl::StatusOr<v1::ReconnectResponse> reconnect(const std::string& migration_id);
    // Asked of a source; one that does not answer yet is waited for. Errors: gRPC's.
    absl::StatusOr<bool> given_back(const std::string& migration_id, Duration limit);

    [[nodiscard]] const HostPort& peer() const { return peer_; }

  private:
    const HostPort peer_;
    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<v1::Transfer::Stub> stub_;
};

}  // namespace godwit
