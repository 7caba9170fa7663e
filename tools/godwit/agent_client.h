// AgentClient: the command line's connection to one agent.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "godwit/v1/agent.grpc.pb.h"
#include "transport/control/peer.h"

namespace godwit {

// Thread-safe. Errors of every call: Unavailable when the agent can't be reached, and the agent's
// own words; both with an ErrorDetail (error_detail.h). Without one a call was lost on its way.
class AgentClient {
  public:
    // Connects at the first call. Errors: InvalidArgument for a malformed address.
    static absl::StatusOr<std::unique_ptr<AgentClient>> connect(const std::string& address);

    absl::StatusOr<v1::Host> host();
    absl::StatusOr<v1::VmInfo> start_vm(const v1::VmSpec& spec);
    absl::Status stop_vm(const std::string& name, bool force, Duration timeout);
    absl::StatusOr<v1::ListVmsResponse> list_vms();
    absl::StatusOr<v1::VmInfo> get_vm(const std::string& name);
    absl::Status read_log(const std::string& name, bool follow,
                          const std::function<void(const std::string&)>& write);
    // Waits for the longest window. Cancelled as cancel().
    absl::StatusOr<v1::DirtyRate> measure_dirty_rate(const v1::MeasureDirtyRateRequest& request,
                                                     const std::stop_token& stop = {});
    // Waits for as long as the guest is watched.
    absl::StatusOr<v1::Plan> plan(const v1::PlanRequest& request);
    absl::StatusOr<v1::Calibration> calibration(const std::string& destination,
                                                const std::stop_token& stop = {});
    // As watch(), until the recording is over.
    absl::Status record_dirty(const v1::RecordDirtyRequest& request,
                              const std::function<bool(const v1::DirtyRecording&)>& visit,
                              const std::stop_token& stop = {});
    // The id. Cancelled as cancel().
    absl::StatusOr<std::string> migrate(const v1::MigrateRequest& request,
                                        const std::stop_token& stop = {});
    // Calls `visit` for every event until the last, or until it returns false. Cancelled when
    // `stop` was asked for.
    absl::Status watch(const std::string& migration,
                       const std::function<bool(const v1::MigrationEvent&)>& visit,
                       const std::stop_token& stop = {});
    // Cancelled when `stop` was asked for: whether the agent has heard of it is not known then.
    absl::Status cancel(const std::string& migration, const std::stop_token& stop = {});
    absl::Status switch_to_postcopy(const std::string& migration);
    absl::Status proceed(const std::string& migration, const std::stop_token& stop = {});
    absl::Status limit(const std::string& migration, Bytes bandwidth_bytes_per_s,
                       const std::stop_token& stop = {});
    absl::Status resume(const std::string& migration);
    absl::Status resolve(const v1::ResolveRequest& request);
    absl::StatusOr<v1::MigrationReport> report(const std::string& migration);
    absl::StatusOr<v1::ListMigrationsResponse> list_migrations(const std::stop_token& stop = {});

    [[nodiscard]] const HostPort& address() const { return address_; }

  private:
    explicit AgentClient(HostPort address);
    absl::Status reach();
    template <typename Response, typename Method, typename Request>
    absl::StatusOr<Response> call(Method method, const Request& request, Duration limit,
                                  const std::stop_token& stop = {});

    const HostPort address_;
    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<v1::Agent::Stub> stub_;
};

}  // namespace godwit
