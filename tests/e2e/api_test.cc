// The public API as an orchestrator sees it: two real agents, and gRPC without the command line.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "engine/guest/vm_file/vm_file.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "transport/control/error_detail.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

// One unary call. Returns its status; `response` is filled when it is ok.
template <typename Request, typename Response>
grpc::Status call(v1::Agent::Stub& stub,
                  grpc::Status (v1::Agent::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
                  const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    return (stub.*method)(&context, request, &response);
}

class Api : public ::testing::Test {
  protected:
    grpc::Status migrate(const std::string& id, const std::string& vm = "vm",
                         const std::function<void(v1::MigrateRequest&)>& change = {}) {
        v1::MigrateRequest request;
        request.set_vm(vm);
        request.set_destination(b_.address());
        request.set_migration_id(id);
        request.set_downtime_limit_us(500'000);
        if (change) change(request);
        return call(*api_, &v1::Agent::Stub::Migrate, request, migrating_);
    }

    std::vector<v1::MigrationEvent> watch(const std::string& migration) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
        v1::WatchRequest request;
        request.set_migration(migration);
        const auto reader = api_->Watch(&context, request);
        std::vector<v1::MigrationEvent> events;
        for (v1::MigrationEvent event; reader->Read(&event);) events.push_back(event);
        watched_ = reader->Finish();
        return events;
    }

    static void expect_detail(const grpc::Status& status, grpc::StatusCode code,
                              const std::string& reason) {
        EXPECT_EQ(status.error_code(), code) << status.error_message();
        EXPECT_EQ(detail_of(status).reason(), reason);
        EXPECT_EQ(detail_of(status).guest_at(), v1::GUEST_AT_SOURCE);
        EXPECT_TRUE(detail_of(status).retry_safe());
    }

    TestAgent a_, b_;
    std::unique_ptr<v1::Agent::Stub> api_ = agent_api(a_);
    v1::MigrateResponse migrating_;
    grpc::Status watched_;
};

// --- migrations -----------------------------------------------------------------------------

TEST_F(Api, TheSameMigrationIdTwiceIsOneMigration) {
    start_guest(a_, small_guest());
    ASSERT_TRUE(migrate("m-1").ok());
    EXPECT_EQ(migrating_.migration_id(), "m-1");
    ASSERT_TRUE(migrate("m-1").ok());
    EXPECT_EQ(migrating_.migration_id(), "m-1");
    EXPECT_EQ(watch("m-1").back().report().outcome(), v1::OUTCOME_DONE);
    ASSERT_TRUE(migrate("m-1").ok()) << "after its end, too";
    v1::ListMigrationsResponse list;
    ASSERT_TRUE(
        call(*api_, &v1::Agent::Stub::ListMigrations, v1::ListMigrationsRequest(), list).ok());
    EXPECT_EQ(list.migrations_size(), 1);
    expect_alive_and_well(b_, "vm", 100);
    expect_detail(migrate("m-1", "another"), grpc::StatusCode::ALREADY_EXISTS, "NAME_TAKEN");
}

TEST_F(Api, WatchReplaysFromTheStartAndEndsWithTheReport) {
    start_guest(a_, small_guest());
    ASSERT_TRUE(migrate("").ok());
    const std::string id = migrating_.migration_id();
    EXPECT_FALSE(id.empty());
    const auto live = watch(id);
    ASSERT_TRUE(watched_.ok()) << watched_.error_message();
    const auto late = watch("vm");  // by the VM's name: its newest migration
    ASSERT_TRUE(watched_.ok()) << watched_.error_message();
    for (const auto& events : {live, late}) {
        ASSERT_GE(events.size(), 4U);
        EXPECT_EQ(events.front().phase(), "prepare");
        EXPECT_EQ(events.front().sequence(), 1U);
        for (size_t i = 1; i < events.size(); ++i)
            EXPECT_GT(events[i].sequence(), events[i - 1].sequence());
        EXPECT_EQ(events.back().phase(), "done");
        EXPECT_EQ(events.back().report().outcome(), v1::OUTCOME_DONE);
        EXPECT_EQ(events.back().report().migration_id(), id);
        EXPECT_TRUE(std::any_of(events.begin(), events.end(),
                                [](const auto& event) { return event.has_round(); }));
    }
}

TEST_F(Api, ReportOfAMigrationUnderWaySaysRunning) {
    start_guest(a_, small_guest());
    ASSERT_TRUE(migrate("slow", "vm", [](auto& request) {
                    request.set_bandwidth_bytes_per_s(4 << 20);
                }).ok());
    v1::GetReportRequest request;
    request.set_migration("slow");
    v1::MigrationReport report;
    ASSERT_TRUE(call(*api_, &v1::Agent::Stub::GetReport, request, report).ok());
    EXPECT_EQ(report.outcome(), v1::OUTCOME_RUNNING);
    v1::GetVmRequest get;
    get.set_name("vm");
    v1::VmInfo vm;
    ASSERT_TRUE(call(*api_, &v1::Agent::Stub::GetVm, get, vm).ok());
    EXPECT_EQ(vm.migration_id(), "slow");
    v1::StopVmRequest stop;
    stop.set_name("vm");
    stop.set_force(true);
    v1::StopVmResponse stopped;
    const grpc::Status refused = call(*api_, &v1::Agent::Stub::StopVm, stop, stopped);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(refused.error_message(), HasSubstr("slow"));
    v1::CancelRequest cancel;
    cancel.set_migration("slow");
    v1::CancelResponse cancelled;
    ASSERT_TRUE(call(*api_, &v1::Agent::Stub::Cancel, cancel, cancelled).ok());
    EXPECT_EQ(watch("slow").back().report().outcome(), v1::OUTCOME_CANCELLED);
    EXPECT_EQ(call(*api_, &v1::Agent::Stub::Cancel, cancel, cancelled).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
    expect_alive_and_well(a_, "vm", 100);
    expect_nothing_left(b_);
}

// --- errors ---------------------------------------------------------------------------------

TEST_F(Api, EveryErrorCarriesItsReasonAndWhereTheGuestIs) {
    expect_detail(migrate("x", "nobody"), grpc::StatusCode::NOT_FOUND, "NOT_FOUND");
    watch("nothing");
    expect_detail(watched_, grpc::StatusCode::NOT_FOUND, "NOT_FOUND");

    v1::GetVmRequest get;
    get.set_name("nobody");
    v1::VmInfo vm;
    expect_detail(call(*api_, &v1::Agent::Stub::GetVm, get, vm), grpc::StatusCode::NOT_FOUND,
                  "NOT_FOUND");
    v1::StopVmRequest stop;
    stop.set_name("nobody");
    v1::StopVmResponse stopped;
    expect_detail(call(*api_, &v1::Agent::Stub::StopVm, stop, stopped), grpc::StatusCode::NOT_FOUND,
                  "NOT_FOUND");
    v1::CancelRequest cancel;
    cancel.set_migration("nothing");
    v1::CancelResponse cancelled;
    expect_detail(call(*api_, &v1::Agent::Stub::Cancel, cancel, cancelled),
                  grpc::StatusCode::NOT_FOUND, "NOT_FOUND");
    v1::GetReportRequest report;
    report.set_migration("nothing");
    v1::MigrationReport found;
    expect_detail(call(*api_, &v1::Agent::Stub::GetReport, report, found),
                  grpc::StatusCode::NOT_FOUND, "NOT_FOUND");
    v1::StartVmRequest start;
    start.mutable_spec()->set_name("no good");
    const grpc::Status bad = call(*api_, &v1::Agent::Stub::StartVm, start, vm);
    expect_detail(bad, grpc::StatusCode::INVALID_ARGUMENT, "BAD_REQUEST");
    EXPECT_THAT(bad.error_message(), HasSubstr("name"));

    grpc::ClientContext context;
    v1::ReadVmLogRequest log;
    log.set_name("nobody");
    const auto reader = api_->ReadVmLog(&context, log);
    v1::VmLogChunk chunk;
    EXPECT_FALSE(reader->Read(&chunk));
    expect_detail(reader->Finish(), grpc::StatusCode::NOT_FOUND, "NOT_FOUND");
}

TEST_F(Api, RequestsOutOfRangeAreRefusedByTheNameOfTheField) {
    start_guest(a_, small_guest());
    const struct {
        const char* field;
        std::function<void(v1::MigrateRequest&)> change;
    } cases[] = {
        {"migration_id", [](auto& r) { r.set_migration_id("../x"); }},
        {"HOST:PORT", [](auto& r) { r.set_destination("nowhere"); }},
        {"strategy", [](auto& r) { r.set_strategy("teleport"); }},
        {"tracker", [](auto& r) { r.set_tracker("crystal-ball"); }},
        {"downtime_limit_us", [](auto& r) { r.set_downtime_limit_us(uint64_t{1} << 40); }},
        {"downtime_limit_us", [](auto& r) { r.set_downtime_limit_us(uint64_t{1} << 63); }},
        {"max_rounds", [](auto& r) { r.set_max_rounds(1'000'000); }},
        {"max_data", [](auto& r) { r.set_max_data(-1); }},
        {"max_data", [](auto& r) { r.set_max_data(std::numeric_limits<double>::quiet_NaN()); }},
        {"streams", [](auto& r) { r.set_streams(17); }},
    };
    for (const auto& one : cases) {
        const grpc::Status status = migrate("m", "vm", one.change);
        expect_detail(status, grpc::StatusCode::INVALID_ARGUMENT, "BAD_REQUEST");
        EXPECT_THAT(status.error_message(), HasSubstr(one.field));
    }
    expect_alive_and_well(a_, "vm", 100);
}

// --- hosts and VMs --------------------------------------------------------------------------

TEST_F(Api, GetHostTellsVersionsRoomAndTrackers) {
    v1::Host host;
    ASSERT_TRUE(call(*api_, &v1::Agent::Stub::GetHost, v1::GetHostRequest(), host).ok());
    EXPECT_FALSE(host.godwit_version().empty());
    EXPECT_EQ(host.protocol_version(), 6U);
    EXPECT_EQ(host.hypervisor(), "qemu");
    EXPECT_FALSE(host.hypervisor_version().empty());
    EXPECT_FALSE(host.kernel().empty());
    EXPECT_EQ(host.kvm(), missing("kvm").empty());
    EXPECT_GT(host.cpus(), 0U);
    EXPECT_GT(host.memory_bytes(), host.available_bytes());
    EXPECT_GT(host.available_bytes(), 0U);
    EXPECT_EQ(host.memory_limit_bytes(), 0U);
    EXPECT_EQ(host.vm_count(), 0U);
    for (const std::string tracker : {"uffd-wp", "kvm-dirty-log"}) {
        const auto names = host.trackers();
        const auto problems = host.tracker_problems();
        EXPECT_TRUE(std::find(names.begin(), names.end(), tracker) != names.end() ||
                    std::any_of(problems.begin(), problems.end(),
                                [&](const std::string& problem) {
                                    return problem.rfind(tracker + ": ", 0) == 0;
                                }))
            << tracker;
    }
}

TEST_F(Api, StartVmRefusesANameThatIsTakenAndTheFirstRunsOn) {
    start_guest(a_, small_guest());
    v1::StartVmRequest request;
    *request.mutable_spec() = *read_vm_file(write_vm_file(a_, small_guest()));
    v1::VmInfo info;
    expect_detail(call(*api_, &v1::Agent::Stub::StartVm, request, info),
                  grpc::StatusCode::ALREADY_EXISTS, "NAME_TAKEN");
    expect_alive_and_well(a_, "vm", 100);
}

TEST_F(Api, StopVmGivesUpOnAGuestThatDoesNotPowerOffUnlessForced) {
    start_guest(a_, small_guest());  // it knows nothing of ACPI
    v1::StopVmRequest request;
    request.set_name("vm");
    request.set_timeout_ms(300);
    v1::StopVmResponse response;
    const grpc::Status late = call(*api_, &v1::Agent::Stub::StopVm, request, response);
    EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_THAT(late.error_message(), HasSubstr("--force"));
    expect_alive_and_well(a_, "vm", 100);
    request.set_force(true);
    EXPECT_TRUE(call(*api_, &v1::Agent::Stub::StopVm, request, response).ok());
    expect_nothing_left(a_);
}

TEST_F(Api, ListVmsHasSpecStatePidAndRamFiles) {
    start_guest(a_, small_guest("one"));
    start_guest(a_, small_guest("two"));
    v1::ListVmsResponse list;
    ASSERT_TRUE(call(*api_, &v1::Agent::Stub::ListVms, v1::ListVmsRequest(), list).ok());
    ASSERT_EQ(list.vms_size(), 2);
    for (const v1::VmInfo& vm : list.vms()) {
        EXPECT_EQ(vm.state(), "running");
        EXPECT_GT(vm.pid(), 0);
        EXPECT_EQ(vm.ram_files_size(), 1);
        EXPECT_FALSE(vm.spec().uuid().empty());
        EXPECT_NE(vm.spec().machine(), "q35") << "the running VM has a versioned machine";
    }
}

// --- gRPC's own services --------------------------------------------------------------------

grpc::ByteBuffer bytes(const std::string& text) {
    const grpc::Slice slice(text);
    return {&slice, 1};
}

std::string text(const grpc::ByteBuffer& buffer) {
    std::vector<grpc::Slice> slices;
    std::string all;
    if (buffer.Dump(&slices).ok())
        for (const grpc::Slice& slice : slices)
            all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    return all;
}

// The next event of the queue, which must be a success.
bool next(grpc::CompletionQueue& queue) {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
}

TEST_F(Api, HealthSaysServing) {
    grpc::GenericStub stub(grpc::CreateChannel(a_.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto health =
        stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", bytes(""), &queue);
    health->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    health->Finish(&answer, &status, nullptr);
    ASSERT_TRUE(next(queue));
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(text(answer), "\x08\x01");  // status: SERVING
}

TEST_F(Api, ReflectionListsTheServices) {
    grpc::GenericStub stub(grpc::CreateChannel(a_.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto reflection = stub.PrepareCall(
        &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    reflection->StartCall(nullptr);
    ASSERT_TRUE(next(queue));
    reflection->Write(bytes("\x3a\x01*"), nullptr);  // list_services: "*"
    ASSERT_TRUE(next(queue));
    grpc::ByteBuffer answer;
    reflection->Read(&answer, nullptr);
    ASSERT_TRUE(next(queue));
    EXPECT_THAT(text(answer), HasSubstr("godwit.v1.Agent"));
    EXPECT_THAT(text(answer), HasSubstr("grpc.health.v1.Health"));
    reflection->WritesDone(nullptr);
    ASSERT_TRUE(next(queue));
    grpc::Status status;
    reflection->Finish(&status, nullptr);
    ASSERT_TRUE(next(queue));
    EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace godwit::testing
