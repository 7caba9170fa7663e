#include "tools/godwitd/transfer_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "engine/base/printable.h"
#include "engine/destination/probe_sink.h"
#include "engine/guest/vm_file/validate_spec.h"
#include "engine/handover/journal.h"
#include "transport/control/error_detail.h"
#include "transport/control/peer.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

// One more while it lives.
class ProbeCount {
  public:
    explicit ProbeCount(std::atomic<int>& count) : count_(count), before_(count.fetch_add(1)) {}
    ~ProbeCount() { count_.fetch_sub(1); }
    ProbeCount(const ProbeCount&) = delete;
    ProbeCount& operator=(const ProbeCount&) = delete;
    [[nodiscard]] int before() const { return before_; }

  private:
    std::atomic<int>& count_;
    const int before_;
};

}  // namespace

grpc::Status TransferService::Prepare(grpc::ServerContext* context,
                                      const v1::PrepareRequest* request,
                                      v1::PrepareResponse* response) {
    if (const absl::Status status = validate_spec(request->spec()); !status.ok())
        return to_grpc(status, untouched("BAD_REQUEST"));
    v1::PrepareRequest from = *request;
    from.set_source(printable(address_of_caller(request->source(), context->peer())));
    const PrepareRefusal refusal = incoming_.prepare(from, *response);
    return to_grpc(refusal.status, untouched(refusal.reason));
}

grpc::Status TransferService::Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                                    v1::AbortResponse*) {
    v1::ErrorDetail detail;
    detail.set_reason("COMMITTED");
    detail.set_guest_at(v1::GUEST_AT_DESTINATION);
    return to_grpc(incoming_.abort(request->migration_id(), printable(request->reason())), detail);
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

grpc::Status TransferService::Probe(grpc::ServerContext* context, const v1::ProbeRequest* request,
                                    grpc::ServerWriter<v1::ProbeEvent>* writer) {
    if (request->protocol_version() != kProtocolVersion)
        return to_grpc(absl::FailedPreconditionError(fmt::format(
                           "Transfer protocol {} meets {}: upgrade the older of the two agents",
                           request->protocol_version(), kProtocolVersion)),
                       untouched("PROTOCOL_VERSION"));
    if (!is_valid_id(request->probe_id()) || request->streams() > ProbeSink::kMostStreams)
        return to_grpc(absl::InvalidArgumentError("Malformed Probe request"),
                       untouched("BAD_REQUEST"));
    const ProbeCount count(probes_);
    if (count.before() >= kMostProbes)
        return to_grpc(absl::ResourceExhaustedError(
                           "Links to this agent are being measured already: try again in a second"),
                       untouched("BUSY"));
    absl::StatusOr<ProbeSink> sink =
        ProbeSink::create({.probe_id = request->probe_id(),
                           .listen_host = probe_options_.listen_host,
                           .streams = static_cast<uint16_t>(request->streams()),
                           .ring = probe_options_.ring});
    if (!sink.ok()) return to_grpc(sink.status(), untouched("REFUSED"));
    v1::ProbeEvent where;
    where.set_session_token(sink->token().data(), sink->token().size());
    where.set_data_port(sink->port());
    where.set_cpus(std::max(std::thread::hardware_concurrency(), 1U));
    writer->Write(where);
    const absl::StatusOr<ProbeSink::Totals> totals =
        sink->run([context] { return context->IsCancelled(); });
    if (!totals.ok()) return to_grpc(totals.status(), untouched("REFUSED"));
    v1::ProbeEvent done;
    done.set_received_bytes(totals->received_bytes);
    done.set_cpu_time_us(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(totals->cpu_time).count()));
    writer->Write(done);
    return grpc::Status::OK;
}

}  // namespace godwit
