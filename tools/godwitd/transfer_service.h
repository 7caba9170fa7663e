// TransferService: what other agents call (transfer.proto).
#pragma once

#include "godwit/v1/transfer.grpc.pb.h"
#include "tools/godwitd/incoming_registry.h"
#include "tools/godwitd/migration_registry.h"

namespace godwit {

class TransferService final : public v1::Transfer::Service {
  public:
    TransferService(IncomingRegistry& incoming, MigrationRegistry& migrations)
        : incoming_(incoming), migrations_(migrations) {}

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

  private:
    IncomingRegistry& incoming_;
    MigrationRegistry& migrations_;
};

}  // namespace godwit
