#include "tools/godwitd/agent_service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <thread>
#include <vector>

#include "engine/guest/vm_file/validate_spec.h"
#include "tools/godwitd/dirty_rate.h"
#include "tools/godwitd/dirty_recording.h"
#include "tools/godwitd/host_memory.h"
#include "tools/godwitd/migrate_settings.h"
#include "tools/godwitd/plan.h"
#include "tools/godwitd/tracker_choice.h"
#include "transport/control/error_detail.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

constexpr Duration kStopLimit = std::chrono::seconds(30);
constexpr Duration kLogPoll = std::chrono::milliseconds(100);

std::string_view word_of(RunState state) {
    switch (state) {
        case RunState::kRunning:
            return "running";
        case RunState::kPaused:
            return "paused";
        case RunState::kInMigrate:
            return "incoming";
        case RunState::kFinishMigrate:
        case RunState::kPostMigrate:
            return "migrating";
        case RunState::kShutdown:
            return "shut down";
        case RunState::kOther:
            break;
    }
    return "other";
}

// The stable word for an error of the API, from its code.
grpc::Status api_error(const absl::Status& status) {
    if (status.ok()) return grpc::Status::OK;
    switch (status.code()) {
        case absl::StatusCode::kNotFound:
            return to_grpc(status, untouched("NOT_FOUND"));
        case absl::StatusCode::kAlreadyExists:
            return to_grpc(status, untouched("NAME_TAKEN"));
        case absl::StatusCode::kInvalidArgument:
            return to_grpc(status, untouched("BAD_REQUEST"));
        case absl::StatusCode::kResourceExhausted:
            return to_grpc(status, untouched("NO_ROOM"));
        default:
            return to_grpc(status, untouched("REFUSED"));
    }
}

}  // namespace

grpc::Status AgentService::GetHost(grpc::ServerContext*, const v1::GetHostRequest*,
                                   v1::Host* host) {
    const absl::StatusOr<HypervisorInfo> info = hypervisor_.info();
    if (!info.ok()) return api_error(info.status());
    const absl::StatusOr<HostMemory> memory = read_host_memory();
    if (!memory.ok()) return api_error(memory.status());
    utsname kernel{};
    ::uname(&kernel);
    host->set_godwit_version(GODWIT_VERSION);
    host->set_protocol_version(kProtocolVersion);
    host->set_hypervisor(info->name);
    host->set_hypervisor_version(info->version);
    host->set_kernel(kernel.release);
    host->set_kvm(info->has_kvm);
    host->set_cpus(std::thread::hardware_concurrency());
    host->set_memory_bytes(memory->total);
    host->set_available_bytes(memory->available);
    host->set_memory_limit_bytes(facts_.memory_limit_bytes);
    host->set_vm_count(static_cast<uint32_t>(vms_.list().size()));
    HostTrackers trackers = host_trackers(info->has_kvm, facts_.resident_library);
    for (std::string& name : trackers.names) host->add_trackers(std::move(name));
    for (std::string& problem : trackers.problems) host->add_tracker_problems(std::move(problem));
    return grpc::Status::OK;
}

void AgentService::describe(Vm& vm, v1::VmInfo& info) {
    *info.mutable_spec() = vm.spec();
    // Long, and virsh dumpxml's.
    info.mutable_spec()->clear_domain_xml();
    info.mutable_spec()->clear_domain_definition_xml();
    const absl::StatusOr<RunState> state = vm.run_state();
    info.set_state(state.ok() ? std::string(word_of(*state)) : "unreachable");
    info.set_pid(vm.pid());
    for (const RamBlock& block : vm.ram_blocks()) info.add_ram_files(block.path);
    info.set_migration_id(vms_.holder(vm.spec().name()));
    // Where QEMU leaves a guest that was paused before a migration failed.
    if (state.ok() && *state == RunState::kPostMigrate && info.migration_id().empty())
        info.set_state("paused");
}

grpc::Status AgentService::StartVm(grpc::ServerContext*, const v1::StartVmRequest* request,
                                   v1::VmInfo* info) {
    if (const absl::Status status = validate_spec(request->spec()); !status.ok())
        return api_error(status);
    const absl::StatusOr<HostMemory> memory = read_host_memory();
    if (!memory.ok()) return api_error(memory.status());
    if (const absl::Status status =
            check_fits(request->spec().memory_bytes(), *memory, facts_.overcommit);
        !status.ok())
        return api_error(status);
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.start(request->spec());
    if (!vm.ok()) return api_error(vm.status());
    describe(**vm, *info);
    return grpc::Status::OK;
}

grpc::Status AgentService::StopVm(grpc::ServerContext*, const v1::StopVmRequest* request,
                                  v1::StopVmResponse*) {
    const Duration limit =
        request->timeout_ms() == 0 ? kStopLimit : api_timeout(request->timeout_ms());
    // Its pages may never come: then nothing else ends it.
    const absl::StatusOr<std::string> name = vms_.own_name(request->name());
    if (!name.ok()) return api_error(name.status());
    const std::string holder = vms_.holder(*name);
    if (request->force() && !holder.empty() && incoming_.is_draining(holder))
        return api_error(vms_.kill_held(*name, holder, limit));
    return api_error(vms_.stop(*name, request->force(), limit));
}

grpc::Status AgentService::ListVms(grpc::ServerContext*, const v1::ListVmsRequest*,
                                   v1::ListVmsResponse* response) {
    for (const std::shared_ptr<Vm>& vm : vms_.list()) describe(*vm, *response->add_vms());
    return grpc::Status::OK;
}

grpc::Status AgentService::GetVm(grpc::ServerContext*, const v1::GetVmRequest* request,
                                 v1::VmInfo* info) {
    const absl::StatusOr<std::string> name = vms_.own_name(request->name());
    if (!name.ok()) return api_error(name.status());
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.find(*name);
    if (!vm.ok()) return api_error(vm.status());
    describe(**vm, *info);
    return grpc::Status::OK;
}

grpc::Status AgentService::ReadVmLog(grpc::ServerContext* context,
                                     const v1::ReadVmLogRequest* request,
                                     grpc::ServerWriter<v1::VmLogChunk>* writer) {
    const absl::StatusOr<std::string> name = vms_.own_name(request->name());
    if (!name.ok()) return api_error(name.status());
    if (const auto vm = vms_.find(*name); !vm.ok()) return api_error(vm.status());
    const std::string path = hypervisor_.serial_log_path(*name);
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid())
        return api_error(errno_status(errno, fmt::format("Cannot open the log {}", path)));
    std::vector<char> buffer(64 << 10);
    std::mutex mutex;
    std::condition_variable timer;
    while (!context->IsCancelled() && !ending_) {
        const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
        if (got < 0 && errno != EINTR) return api_error(errno_status(errno, "read of a log"));
        if (got > 0) {
            v1::VmLogChunk chunk;
            chunk.set_data(buffer.data(), static_cast<size_t>(got));
            if (!writer->Write(chunk)) break;
        } else if (!request->follow()) {
            break;
        } else {
            // A log that was cut has become shorter than what was read of it.
            struct stat status {};
            const off_t at = ::lseek(file.get(), 0, SEEK_CUR);
            if (::fstat(file.get(), &status) == 0 && status.st_size < at)
                ::lseek(file.get(), status.st_size, SEEK_SET);
            // QEMU appends without telling anybody; a reader of a log does not mind 100 ms.
            std::unique_lock lock(mutex);
            timer.wait_for(lock, kLogPoll);
            if (got == 0 && !vms_.find(*name).ok()) break;
        }
    }
    return grpc::Status::OK;
}

grpc::Status AgentService::MeasureDirtyRate(grpc::ServerContext* context,
                                            const v1::MeasureDirtyRateRequest* request,
                                            v1::DirtyRate* rate) {
    const absl::StatusOr<std::string> tracker = tracker_name(request->tracker());
    if (!tracker.ok()) return api_error(tracker.status());
    const absl::StatusOr<std::vector<Duration>> windows = dirty_rate_windows(*request);
    if (!windows.ok()) return api_error(windows.status());
    // Held as by a migration: a VM has one tracker at a time.
    constexpr const char* kHolder = "(dirty rate being measured)";
    const absl::StatusOr<std::string> name = vms_.own_name(request->name());
    if (!name.ok()) return api_error(name.status());
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.hold(*name, kHolder);
    if (!vm.ok()) return api_error(vm.status());
    absl::StatusOr<v1::DirtyRate> measured = measure_dirty_rate(
        **vm, *tracker, *windows, [&] { return context->IsCancelled() || ending_; });
    vms_.release(*name, kHolder);
    if (!measured.ok())
        return api_error(annotate(measured.status(), "Cannot measure the dirty rate"));
    *rate = *std::move(measured);
    return grpc::Status::OK;
}

grpc::Status AgentService::Plan(grpc::ServerContext* context, const v1::PlanRequest* request,
                                v1::Plan* plan) {
    const absl::StatusOr<PlanSettings> settings = plan_settings(*request);
    if (!settings.ok()) return api_error(settings.status());
    if (settings->destination.to_string() == migrations_.own_address())
        return api_error(absl::FailedPreconditionError(
            fmt::format("{} is this agent itself: name another", request->destination())));
    // Held as by a migration: a VM has one tracker at a time.
    constexpr const char* kHolder = "(being planned)";
    const absl::StatusOr<std::string> name = vms_.own_name(request->vm());
    if (!name.ok()) return api_error(name.status());
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.hold(*name, kHolder);
    if (!vm.ok()) return api_error(vm.status());
    absl::StatusOr<v1::Plan> made =
        plan_migration(**vm, *settings,
                       {.source = migrations_.own_address(),
                        .past = calibration_.past(request->destination()),
                        .ring = facts_.ring,
                        .placement = facts_.placement,
                        .cancelled = [&] { return context->IsCancelled() || ending_; }});
    vms_.release(*name, kHolder);
    if (!made.ok())
        return api_error(
            annotate(made.status(), fmt::format("Cannot plan a migration of {}", request->vm())));
    calibration_.expect(*made);
    *plan = *std::move(made);
    return grpc::Status::OK;
}

grpc::Status AgentService::GetCalibration(grpc::ServerContext*,
                                          const v1::GetCalibrationRequest* request,
                                          v1::Calibration* calibration) {
    *calibration = calibration_.history(request->destination());
    return grpc::Status::OK;
}

grpc::Status AgentService::RecordDirty(grpc::ServerContext* context,
                                       const v1::RecordDirtyRequest* request,
                                       grpc::ServerWriter<v1::DirtyRecording>* writer) {
    const absl::StatusOr<std::string> tracker = tracker_name(request->tracker());
    if (!tracker.ok()) return api_error(tracker.status());
    const absl::StatusOr<RecordingTimes> times = recording_times(*request);
    if (!times.ok()) return api_error(times.status());
    constexpr const char* kHolder = "(dirty sets being recorded)";
    const absl::StatusOr<std::string> name = vms_.own_name(request->name());
    if (!name.ok()) return api_error(name.status());
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.hold(*name, kHolder);
    if (!vm.ok()) return api_error(vm.status());
    const absl::Status status = record_dirty(
        **vm, *tracker, *times, [&] { return context->IsCancelled() || ending_; },
        [&](const v1::DirtyRecording& message) { return writer->Write(message); });
    vms_.release(*name, kHolder);
    if (!status.ok()) return api_error(annotate(status, "Cannot record dirty pages"));
    return grpc::Status::OK;
}

grpc::Status AgentService::Migrate(grpc::ServerContext*, const v1::MigrateRequest* request,
                                   v1::MigrateResponse* response) {
    const absl::StatusOr<std::string> id = migrations_.start(*request);
    if (!id.ok()) return api_error(id.status());
    response->set_migration_id(*id);
    return grpc::Status::OK;
}

grpc::Status AgentService::Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                                 grpc::ServerWriter<v1::MigrationEvent>* writer) {
    return api_error(migrations_.watch(request->migration(), [&](const v1::MigrationEvent* event) {
        if (context->IsCancelled()) return false;
        if (event == nullptr) return !ending_;
        return writer->Write(*event);
    }));
}

grpc::Status AgentService::Cancel(grpc::ServerContext*, const v1::CancelRequest* request,
                                  v1::CancelResponse*) {
    const absl::Status status = migrations_.cancel(request->migration());
    if (!absl::IsFailedPrecondition(status)) return api_error(status);
    // Too late: where the guest is, the migration's report knows once it is there. Past COMMIT, and
    // before the answer to it, the guest belongs to the destination; it may be on its way back too.
    v1::ErrorDetail detail = untouched("TOO_LATE");
    const absl::StatusOr<v1::MigrationReport> report = migrations_.report(request->migration());
    const bool under_way = report.ok() && report->outcome() == v1::OUTCOME_RUNNING;
    if (under_way && status.message() == kTooLate)
        detail.set_guest_at(v1::GUEST_AT_DESTINATION);
    else if (report.ok())
        detail.set_guest_at(report->guest_at());
    detail.set_retry_safe(report.ok() && !under_way && report->retry_safe());
    return to_grpc(status, detail);
}

grpc::Status AgentService::Switch(grpc::ServerContext*, const v1::SwitchRequest* request,
                                  v1::SwitchResponse*) {
    return api_error(migrations_.switch_to_postcopy(request->migration()));
}

grpc::Status AgentService::Proceed(grpc::ServerContext*, const v1::ProceedRequest* request,
                                   v1::ProceedResponse*) {
    return api_error(migrations_.proceed(request->migration()));
}

grpc::Status AgentService::Resume(grpc::ServerContext*, const v1::ResumeRequest* request,
                                  v1::ResumeResponse*) {
    return api_error(migrations_.resume(request->migration()));
}

grpc::Status AgentService::Resolve(grpc::ServerContext*, const v1::ResolveRequest* request,
                                   v1::ResolveResponse*) {
    Fate fate = Fate::kRefused;
    const v1::GuestAt at = request->guest_at();
    if (at == v1::GUEST_AT_DESTINATION)
        fate = Fate::kAtDestination;
    else if (at == v1::GUEST_AT_NONE)
        fate = Fate::kNowhere;
    else if (!request->has_guest_at() || at != v1::GUEST_AT_SOURCE)
        return api_error(absl::InvalidArgumentError(
            "Say where the guest is: the source, the destination, or none of them"));
    return api_error(migrations_.resolve(request->migration(), fate, request->confirm()));
}

grpc::Status AgentService::Limit(grpc::ServerContext*, const v1::LimitRequest* request,
                                 v1::LimitResponse*) {
    if (!request->has_bandwidth_bytes_per_s())
        return api_error(absl::InvalidArgumentError("Nothing is to be changed: say a bandwidth"));
    return api_error(migrations_.limit(request->migration(), request->bandwidth_bytes_per_s()));
}

grpc::Status AgentService::GetReport(grpc::ServerContext*, const v1::GetReportRequest* request,
                                     v1::MigrationReport* report) {
    absl::StatusOr<v1::MigrationReport> found = migrations_.report(request->migration());
    if (!found.ok()) return api_error(found.status());
    *report = *std::move(found);
    return grpc::Status::OK;
}

grpc::Status AgentService::ListMigrations(grpc::ServerContext*, const v1::ListMigrationsRequest*,
                                          v1::ListMigrationsResponse* response) {
    for (v1::MigrationReport& report : migrations_.list())
        *response->add_migrations() = std::move(report);
    return grpc::Status::OK;
}

}  // namespace godwit
