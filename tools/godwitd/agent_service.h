// AgentService: the public API (agent.proto) over gRPC.
#pragma once

#include <atomic>
#include <string>

#include "engine/guest/hypervisor.h"
#include "godwit/v1/agent.grpc.pb.h"
#include "tools/godwitd/calibration_file.h"
#include "tools/godwitd/incoming_registry.h"
#include "tools/godwitd/migration_registry.h"
#include "tools/godwitd/vm_registry.h"

namespace godwit {

// What GetHost tells of how the agent was started.
struct AgentFacts {
    Bytes memory_limit_bytes = 0;  // 0: none
    std::string resident_library;  // empty: there is none
    bool overcommit = false;       // takes VMs that are larger than the host
    RingKind ring = RingKind::kIoUring;
    ThreadPlacement placement;  // of threads that move pages
};

// Thread-safe, as gRPC calls it.
class AgentService final : public v1::Agent::Service {
  public:
    AgentService(Hypervisor& hypervisor, VmRegistry& vms, MigrationRegistry& migrations,
                 IncomingRegistry& incoming, CalibrationFile& calibration, AgentFacts facts)
        : hypervisor_(hypervisor),
          vms_(vms),
          migrations_(migrations),
          incoming_(incoming),
          calibration_(calibration),
          facts_(std::move(facts)) {}

    // Ends streams that follow something, so that the server can shut down.
    void end_followers() { ending_ = true; }

    grpc::Status GetHost(grpc::ServerContext*, const v1::GetHostRequest*, v1::Host* host) override;
    grpc::Status StartVm(grpc::ServerContext*, const v1::StartVmRequest* request,
                         v1::VmInfo* info) override;
    grpc::Status StopVm(grpc::ServerContext*, const v1::StopVmRequest* request,
                        v1::StopVmResponse*) override;
    grpc::Status ListVms(grpc::ServerContext*, const v1::ListVmsRequest*,
                         v1::ListVmsResponse* response) override;
    grpc::Status GetVm(grpc::ServerContext*, const v1::GetVmRequest* request,
                       v1::VmInfo* info) override;
    grpc::Status ReadVmLog(grpc::ServerContext* context, const v1::ReadVmLogRequest* request,
                           grpc::ServerWriter<v1::VmLogChunk>* writer) override;
    grpc::Status MeasureDirtyRate(grpc::ServerContext* context,
                                  const v1::MeasureDirtyRateRequest* request,
                                  v1::DirtyRate* rate) override;
    grpc::Status Plan(grpc::ServerContext* context, const v1::PlanRequest* request,
                      v1::Plan* plan) override;
    grpc::Status GetCalibration(grpc::ServerContext*, const v1::GetCalibrationRequest* request,
                                v1::Calibration* calibration) override;
    grpc::Status RecordDirty(grpc::ServerContext* context, const v1::RecordDirtyRequest* request,
                             grpc::ServerWriter<v1::DirtyRecording>* writer) override;
    grpc::Status Migrate(grpc::ServerContext*, const v1::MigrateRequest* request,
                         v1::MigrateResponse* response) override;
    grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                       grpc::ServerWriter<v1::MigrationEvent>* writer) override;
    grpc::Status Cancel(grpc::ServerContext*, const v1::CancelRequest* request,
                        v1::CancelResponse*) override;
    grpc::Status Proceed(grpc::ServerContext*, const v1::ProceedRequest* request,
                         v1::ProceedResponse*) override;
    grpc::Status Switch(grpc::ServerContext*, const v1::SwitchRequest* request,
                        v1::SwitchResponse*) override;
    grpc::Status Resolve(grpc::ServerContext*, const v1::ResolveRequest* request,
                         v1::ResolveResponse*) override;
    grpc::Status Resume(grpc::ServerContext*, const v1::ResumeRequest* request,
                        v1::ResumeResponse*) override;
    grpc::Status Limit(grpc::ServerContext*, const v1::LimitRequest* request,
                       v1::LimitResponse*) override;
    grpc::Status GetReport(grpc::ServerContext*, const v1::GetReportRequest* request,
                           v1::MigrationReport* report) override;
    grpc::Status ListMigrations(grpc::ServerContext*, const v1::ListMigrationsRequest*,
                                v1::ListMigrationsResponse* response) override;

  private:
    void describe(Vm& vm, v1::VmInfo& info);

    Hypervisor& hypervisor_;
    VmRegistry& vms_;
    MigrationRegistry& migrations_;
    IncomingRegistry& incoming_;
    CalibrationFile& calibration_;
    const AgentFacts facts_;
    std::atomic<bool> ending_{false};
};

}  // namespace godwit
