#include "engine/source/transfer_client.h"

#include <fmt/format.h>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr Duration kConnectLimit = std::chrono::seconds(5);
constexpr Duration kCallLimit = std::chrono::seconds(5);

void set_deadline(grpc::ClientContext& context, Duration limit) {
    context.set_deadline(std::chrono::system_clock::now() + limit);
}

}  // namespace

TransferClient::TransferClient(HostPort peer)
    : peer_(std::move(peer)),
      channel_(open_agent_channel(peer_)),
      stub_(v1::Transfer::NewStub(channel_)) {}

absl::StatusOr<v1::PrepareResponse> TransferClient::prepare(const v1::PrepareRequest& request,
                                                            Duration limit, bool& untouched) {
    untouched = true;
    GODWIT_RETURN_IF_ERROR(await_agent(*channel_, peer_, kConnectLimit));
    grpc::ClientContext context;
    set_deadline(context, limit);
    v1::PrepareResponse response;
    const grpc::Status status = stub_->Prepare(&context, request, &response);
    if (status.ok()) return response;
    const v1::ErrorDetail detail = detail_of(status);
    untouched = detail.reason() != "START_FAILED" && !detail.reason().empty();
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
        untouched = true;
        return absl::FailedPreconditionError(fmt::format(
            "{} answers, but is no Godwit agent of this protocol version", peer_.to_string()));
    }
    return annotate(from_grpc(status), fmt::format("The destination {}", peer_.to_string()));
}

absl::Status TransferClient::abort(const std::string& migration_id, const std::string& reason) {
    grpc::ClientContext context;
    set_deadline(context, kCallLimit);
    v1::AbortRequest request;
    request.set_migration_id(migration_id);
    request.set_reason(reason);
    v1::AbortResponse response;
    return from_grpc(stub_->Abort(&context, request, &response));
}

absl::StatusOr<v1::QueryResponse> TransferClient::query(const std::string& migration_id) {
    grpc::ClientContext context;
    set_deadline(context, kCallLimit);
    v1::QueryRequest request;
    request.set_migration_id(migration_id);
    v1::QueryResponse response;
    const grpc::Status status = stub_->Query(&context, request, &response);
    if (!status.ok()) return from_grpc(status);
    response.set_detail(printable(response.detail()));
    response.set_arrival_problem(printable(response.arrival_problem()));
    return response;
}

absl::StatusOr<v1::ReconnectResponse> TransferClient::reconnect(const std::string& migration_id) {
    grpc::ClientContext context;
    set_deadline(context, kCallLimit);
    v1::ReconnectRequest request;
    request.set_migration_id(migration_id);
    v1::ReconnectResponse response;
    const grpc::Status status = stub_->Reconnect(&context, request, &response);
    if (!status.ok())
        return annotate(from_grpc(status), fmt::format("The destination {}", peer_.to_string()));
    v1::QueryResponse& state = *response.mutable_state();
    state.set_detail(printable(state.detail()));
    state.set_arrival_problem(printable(state.arrival_problem()));
    return response;
}

absl::StatusOr<bool> TransferClient::given_back(const std::string& migration_id, Duration limit) {
    const auto deadline = std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::milliseconds>(limit);
    v1::GivenBackRequest request;
    request.set_migration_id(migration_id);
    while (true) {
        grpc::ClientContext context;
        context.set_deadline(deadline);
        context.set_wait_for_ready(true);
        v1::GivenBackResponse response;
        const grpc::Status status = stub_->GivenBack(&context, request, &response);
        if (status.ok()) return response.given_back();
        // An answer that was lost with its connection is asked for again.
        if (status.error_code() != grpc::StatusCode::UNAVAILABLE ||
            std::chrono::system_clock::now() >= deadline)
            return annotate(from_grpc(status), fmt::format("The source {}", peer_.to_string()));
    }
}

}  // namespace godwit
