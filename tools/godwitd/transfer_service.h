// TransferService: what other agents call (transfer.proto).
#pragma once

#include <atomic>
#include <string>

#include "godwit/v1/transfer.grpc.pb.h"
#include "tools/godwitd/incoming_registry.h"
#include "tools/godwitd/migration_registry.h"
#include "transport/ring/ring.h"

namespace godwit {

class TransferService final : public v1::Transfer::Service {
  public:
    struct ProbeOptions {
        std::string listen_host;
        RingKind ring = RingKind::kIoUring;
    };
    TransferService(IncomingRegistry& incoming, MigrationRegistry& migrations, ProbeOptions probes)
        : incoming_(incoming), migrations_(migrations), probe_options_(std::move(probes)) {}

    grpc::Status Prepare(grpc::ServerContext* context, const v1::PrepareRequest* request,
                         v1::PrepareResponse* response) override;
    grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                       v1::AbortResponse*) override;
    grpc::Status Query(grpc::ServerContext*, const v1::QueryRequest* request,
                       v1::QueryResponse* response) override;
    grpc::Status Reconnect(grpc::ServerContext*, const v1::ReconnectRequest* request,
                           v1::ReconnectResponse* response) override;
    grpc::Status GivenBack(grpc::ServerContext*, const v1::GivenBackRequest* request,
                           v1::GivenBackResponse* response) override;
    grpc::Status Probe(grpc::ServerContext* context, const v1::ProbeRequest* request,
                       grpc::ServerWriter<v1::ProbeEvent>* writer) override;

    // At once: each has threads, and takes the link from migrations.
    static constexpr int kMostProbes = 2;

  private:
    IncomingRegistry& incoming_;
    MigrationRegistry& migrations_;
    const ProbeOptions probe_options_;
    std::atomic<int> probes_{0};
};

}  // namespace godwit
