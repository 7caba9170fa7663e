#include "tests/unit/tools/godwit/fake_agent.h"

#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

// Longer than anything here takes, and shorter than a test may.
constexpr std::chrono::seconds kPatience(20);
constexpr std::chrono::milliseconds kLook(5);  // gRPC tells nobody that a caller has gone

std::string vm_of(const std::string& migration) { return migration.substr(2); }

v1::MigrationEvent in_phase(const std::string& phase) {
    v1::MigrationEvent event;
    event.set_phase(phase);
    event.set_message("as the script has it");
    return event;
}

v1::MigrationEvent ended(v1::Outcome outcome, v1::GuestAt at) {
    v1::MigrationEvent event;
    event.set_phase("ended");
    event.mutable_report()->set_outcome(outcome);
    event.mutable_report()->set_guest_at(at);
    event.mutable_report()->set_retry_safe(true);
    return event;
}

}  // namespace

FakeAgent::FakeAgent() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
}

FakeAgent::~FakeAgent() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
}

std::unique_ptr<AgentClient> FakeAgent::client() {
    return *AgentClient::connect("127.0.0.1:" + std::to_string(port_));
}

void FakeAgent::add_vm(const std::string& name, const std::string& uuid) {
    v1::VmSpec& spec = *vms_.add_vms()->mutable_spec();
    spec.set_name(name);
    spec.set_uuid(uuid);
    spec.set_memory_bytes(uint64_t{1} << 30);
}

bool FakeAgent::await(const grpc::ServerContext& context, const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    std::unique_lock lock(mutex_);
    while (!done() && !context.IsCancelled()) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        changed_.wait_for(lock, kLook);
    }
    return true;
}

grpc::Status FakeAgent::hang(const Call& call) {
    EXPECT_TRUE(await(call.context, [] { return false; }))
        << "somebody waits for an agent that hangs, for " << call.vm;
    return grpc::Status::OK;
}

int FakeAgent::note(const std::string& what, const std::string& vm) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    return ++calls_[{what, vm}];
}

int FakeAgent::calls(const std::string& what, const std::string& vm) {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find({what, vm});
    return found == calls_.end() ? 0 : found->second;
}

grpc::Status FakeAgent::run(const char* what, const Script& script, const std::string& vm,
                            grpc::ServerContext& context) {
    const int times = note(what, vm);
    return script({.vm = vm, .times = times, .context = context});
}

grpc::Status FakeAgent::ListVms(grpc::ServerContext*, const v1::ListVmsRequest*,
                                v1::ListVmsResponse* response) {
    *response = vms_;
    return grpc::Status::OK;
}

grpc::Status FakeAgent::MeasureDirtyRate(grpc::ServerContext* context,
                                         const v1::MeasureDirtyRateRequest* request,
                                         v1::DirtyRate*) {
    return run("measure", on_measure, request->name(), *context);
}

grpc::Status FakeAgent::Migrate(grpc::ServerContext*, const v1::MigrateRequest* request,
                                v1::MigrateResponse* response) {
    note("migrate", request->vm());
    response->set_migration_id("m-" + request->vm());
    return grpc::Status::OK;
}

grpc::Status FakeAgent::Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                              grpc::ServerWriter<v1::MigrationEvent>* writer) {
    const std::string vm = vm_of(request->migration());
    writer->Write(in_phase(is_ready(vm) ? "ready" : "rounds"));
    if (const grpc::Status status = run("watch", on_watch, vm, *context); !status.ok())
        return status;
    const std::pair<std::string, std::string> goes_on{"go on", vm};
    const std::pair<std::string, std::string> stays{"stay", vm};
    const bool came =
        await(*context, [&] { return calls_.contains(goes_on) || calls_.contains(stays); });
    if (calls("go on", vm) > 0)
        writer->Write(ended(v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION));
    else if (calls("stay", vm) > 0)
        writer->Write(ended(v1::OUTCOME_CANCELLED, v1::GUEST_AT_SOURCE));
    else if (!came)  // as one that is held too long
        writer->Write(ended(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE));
    return grpc::Status::OK;
}

grpc::Status FakeAgent::Proceed(grpc::ServerContext* context, const v1::ProceedRequest* request,
                                v1::ProceedResponse*) {
    const std::string vm = vm_of(request->migration());
    grpc::Status status = run("proceed", on_proceed, vm, *context);
    if (status.ok()) note("go on", vm);
    return status;
}

grpc::Status FakeAgent::Cancel(grpc::ServerContext* context, const v1::CancelRequest* request,
                               v1::CancelResponse*) {
    const std::string vm = vm_of(request->migration());
    grpc::Status status = run("cancel", on_cancel, vm, *context);
    if (status.ok()) note("stay", vm);
    return status;
}

grpc::Status FakeAgent::Limit(grpc::ServerContext* context, const v1::LimitRequest* request,
                              v1::LimitResponse*) {
    return run("limit", on_limit, vm_of(request->migration()), *context);
}

}  // namespace godwit
