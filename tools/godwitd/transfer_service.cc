#include "tools/godwitd/transfer_service.h"

#include "engine/guest/vm_file/validate_spec.h"
#include "transport/control/error_detail.h"
#include "transport/control/peer.h"

namespace godwit {

grpc::Status TransferService::Prepare(grpc::ServerContext* context,
                                      const v1::PrepareRequest* request,
                                      v1::PrepareResponse* response) {
    if (const absl::Status status = validate_spec(request->spec()); !status.ok())
        return to_grpc(status, untouched("BAD_REQUEST"));
    v1::PrepareRequest from = *request;
    from.set_source(address_of_caller(request->source(), context->peer()));
    const PrepareRefusal refusal = incoming_.prepare(from, *response);
    return to_grpc(refusal.status, untouched(refusal.reason));
}

grpc::Status TransferService::Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                                    v1::AbortResponse*) {
    v1::ErrorDetail detail;
    detail.set_reason("COMMITTED");
    detail.set_guest_at(v1::GUEST_AT_DESTINATION);
    return to_grpc(incoming_.abort(request->migration_id(), request->reason()), detail);
}

grpc::Status TransferService::Query(grpc::ServerContext*, const v1::QueryRequest* request,
                                    v1::QueryResponse* response) {
    *response = incoming_.query(request->migration_id());
    return grpc::Status::OK;
}

grpc::Status TransferService::Reconnect(grpc::ServerContext*, const v1::ReconnectRequest* request,
                                        v1::ReconnectResponse* response) {
    *response = incoming_.reconnect(request->migration_id());
    return grpc::Status::OK;
}

grpc::Status TransferService::GivenBack(grpc::ServerContext*, const v1::GivenBackRequest* request,
                                        v1::GivenBackResponse* response) {
    response->set_given_back(migrations_.given_back(request->migration_id()));
    return grpc::Status::OK;
}

}  // namespace godwit
