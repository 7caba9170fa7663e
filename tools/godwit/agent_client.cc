#include "tools/godwit/agent_client.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr Duration kConnectLimit = std::chrono::seconds(3);
constexpr Duration kCallLimit = std::chrono::seconds(60);
// An agent keeps a thousand reports; one with 30 rounds takes 10 KB, one with 1,000 takes 300.
constexpr Bytes kMostOfReply = Bytes{512} << 20;

// Reads a stream to its end, or until `visit` returns false.
template <typename Message>
absl::Status read_stream(grpc::ClientContext& context, grpc::ClientReader<Message>& reader,
                         const std::function<bool(const Message&)>& visit) {
    Message message;
    while (reader.Read(&message)) {
        if (visit(message)) continue;
        context.TryCancel();
        while (reader.Read(&message)) {
        }
        reader.Finish();
        return absl::OkStatus();
    }
    return from_grpc(reader.Finish());
}

}  // namespace

absl::Status AgentClient::reach() {
    const absl::Status status = await_agent(*channel_, address_, kConnectLimit);
    if (status.ok()) return status;
    return with_detail(
        absl::Status(status.code(),
                     fmt::format("{}; start one there with: godwitd --listen {}, or name another "
                                 "with --agent or GODWIT_AGENT",
                                 std::string(status.message()), address_.to_string())),
        untouched("AGENT_UNREACHABLE"));
}

// One unary call with a deadline, once the agent answers.
template <typename Response, typename Method, typename Request>
absl::StatusOr<Response> AgentClient::call(Method method, const Request& request, Duration limit,
                                           const std::stop_token& stop) {
    GODWIT_RETURN_IF_ERROR(reach());
    grpc::ClientContext context;
    const std::stop_callback give_up(stop, [&] { context.TryCancel(); });
    context.set_deadline(std::chrono::system_clock::now() + limit);
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    if (!status.ok()) return from_grpc(status);
    return response;
}

AgentClient::AgentClient(HostPort address)
    : address_(std::move(address)),
      channel_(open_agent_channel(address_, kMostOfReply)),
      stub_(v1::Agent::NewStub(channel_)) {}

absl::StatusOr<std::unique_ptr<AgentClient>> AgentClient::connect(const std::string& address) {
    GODWIT_ASSIGN_OR_RETURN(HostPort parsed, parse_host_port(address));
    std::unique_ptr<AgentClient> client(new AgentClient(std::move(parsed)));
    return client;
}

absl::StatusOr<v1::Host> AgentClient::host() {
    return call<v1::Host>(&v1::Agent::Stub::GetHost, v1::GetHostRequest(), kCallLimit);
}

absl::StatusOr<v1::VmInfo> AgentClient::start_vm(const v1::VmSpec& spec) {
    v1::StartVmRequest request;
    *request.mutable_spec() = spec;
    return call<v1::VmInfo>(&v1::Agent::Stub::StartVm, request, kCallLimit);
}

absl::Status AgentClient::stop_vm(const std::string& name, bool force, Duration timeout) {
    v1::StopVmRequest request;
    request.set_name(name);
    request.set_force(force);
    request.set_timeout_ms(static_cast<uint64_t>(to_ms(timeout)));
    return call<v1::StopVmResponse>(&v1::Agent::Stub::StopVm, request, timeout + kCallLimit)
        .status();
}

absl::StatusOr<v1::ListVmsResponse> AgentClient::list_vms() {
    return call<v1::ListVmsResponse>(&v1::Agent::Stub::ListVms, v1::ListVmsRequest(), kCallLimit);
}

absl::StatusOr<v1::VmInfo> AgentClient::get_vm(const std::string& name) {
    v1::GetVmRequest request;
    request.set_name(name);
    return call<v1::VmInfo>(&v1::Agent::Stub::GetVm, request, kCallLimit);
}

absl::Status AgentClient::read_log(const std::string& name, bool follow,
                                   const std::function<void(const std::string&)>& write) {
    GODWIT_RETURN_IF_ERROR(reach());
    grpc::ClientContext context;
    v1::ReadVmLogRequest request;
    request.set_name(name);
    request.set_follow(follow);
    const auto reader = stub_->ReadVmLog(&context, request);
    v1::VmLogChunk chunk;
    while (reader->Read(&chunk)) write(chunk.data());
    return from_grpc(reader->Finish());
}

absl::StatusOr<v1::DirtyRate> AgentClient::measure_dirty_rate(
    const v1::MeasureDirtyRateRequest& request, const std::stop_token& stop) {
    Duration longest{};
    for (const uint64_t window_us : request.windows_us())
        longest = std::max<Duration>(longest, std::chrono::microseconds(window_us));
    return call<v1::DirtyRate>(&v1::Agent::Stub::MeasureDirtyRate, request, longest + kCallLimit,
                               stop);
}

absl::StatusOr<v1::Plan> AgentClient::plan(const v1::PlanRequest& request) {
    return call<v1::Plan>(&v1::Agent::Stub::Plan, request,
                          std::chrono::microseconds(request.sample_us()) + kCallLimit);
}

absl::StatusOr<v1::Calibration> AgentClient::calibration(const std::string& destination,
                                                         const std::stop_token& stop) {
    v1::GetCalibrationRequest request;
    request.set_destination(destination);
    return call<v1::Calibration>(&v1::Agent::Stub::GetCalibration, request, kCallLimit, stop);
}

absl::StatusOr<std::string> AgentClient::migrate(const v1::MigrateRequest& request,
                                                 const std::stop_token& stop) {
    GODWIT_ASSIGN_OR_RETURN(
        const v1::MigrateResponse response,
        call<v1::MigrateResponse>(&v1::Agent::Stub::Migrate, request, kCallLimit, stop));
    return response.migration_id();
}

absl::Status AgentClient::watch(const std::string& migration,
                                const std::function<bool(const v1::MigrationEvent&)>& visit,
                                const std::stop_token& stop) {
    GODWIT_RETURN_IF_ERROR(reach());
    grpc::ClientContext context;
    const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    v1::WatchRequest request;
    request.set_migration(migration);
    const auto reader = stub_->Watch(&context, request);
    return read_stream(context, *reader, visit);
}

absl::Status AgentClient::record_dirty(const v1::RecordDirtyRequest& request,
                                       const std::function<bool(const v1::DirtyRecording&)>& visit,
                                       const std::stop_token& stop) {
    GODWIT_RETURN_IF_ERROR(reach());
    grpc::ClientContext context;
    const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    const auto reader = stub_->RecordDirty(&context, request);
    return read_stream(context, *reader, visit);
}

absl::Status AgentClient::cancel(const std::string& migration, const std::stop_token& stop) {
    v1::CancelRequest request;
    request.set_migration(migration);
    return call<v1::CancelResponse>(&v1::Agent::Stub::Cancel, request, kCallLimit, stop).status();
}

absl::Status AgentClient::switch_to_postcopy(const std::string& migration) {
    v1::SwitchRequest request;
    request.set_migration(migration);
    return call<v1::SwitchResponse>(&v1::Agent::Stub::Switch, request, kCallLimit).status();
}

absl::Status AgentClient::proceed(const std::string& migration, const std::stop_token& stop) {
    v1::ProceedRequest request;
    request.set_migration(migration);
    return call<v1::ProceedResponse>(&v1::Agent::Stub::Proceed, request, kCallLimit, stop).status();
}

absl::Status AgentClient::limit(const std::string& migration, Bytes bandwidth_bytes_per_s,
                                const std::stop_token& stop) {
    v1::LimitRequest request;
    request.set_migration(migration);
    request.set_bandwidth_bytes_per_s(bandwidth_bytes_per_s);
    return call<v1::LimitResponse>(&v1::Agent::Stub::Limit, request, kCallLimit, stop).status();
}

absl::Status AgentClient::resume(const std::string& migration) {
    v1::ResumeRequest request;
    request.set_migration(migration);
    return call<v1::ResumeResponse>(&v1::Agent::Stub::Resume, request, kCallLimit).status();
}

absl::Status AgentClient::resolve(const v1::ResolveRequest& request) {
    return call<v1::ResolveResponse>(&v1::Agent::Stub::Resolve, request, kCallLimit).status();
}

absl::StatusOr<v1::MigrationReport> AgentClient::report(const std::string& migration) {
    v1::GetReportRequest request;
    request.set_migration(migration);
    return call<v1::MigrationReport>(&v1::Agent::Stub::GetReport, request, kCallLimit);
}

absl::StatusOr<v1::ListMigrationsResponse> AgentClient::list_migrations(
    const std::stop_token& stop) {
    return call<v1::ListMigrationsResponse>(&v1::Agent::Stub::ListMigrations,
                                            v1::ListMigrationsRequest(), kCallLimit, stop);
}

}  // namespace godwit
