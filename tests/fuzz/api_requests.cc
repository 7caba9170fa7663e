// Requests of the two gRPC services as they come off the wire, through every check that is made
// before anything is touched; and the messages that a peer's answers carry.
#include <google/protobuf/message.h>

#include <sstream>
#include <string>

#include "engine/base/check.h"
#include "engine/guest/libvirt/domain_xml.h"
#include "engine/guest/vm_file/validate_spec.h"
#include "engine/report/json.h"
#include "godwit/v1/agent.pb.h"
#include "godwit/v1/transfer.pb.h"
#include "tests/fuzz/target.h"
#include "tools/godwit/trace_recorder.h"
#include "tools/godwitd/calibration_file.h"
#include "tools/godwitd/dirty_rate.h"
#include "tools/godwitd/dirty_recording.h"
#include "tools/godwitd/host_memory.h"
#include "tools/godwitd/migrate_settings.h"
#include "tools/godwitd/plan_settings.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

void check_spec(const v1::VmSpec& spec) {
    const absl::Status status = validate_spec(spec);
    const auto fault = find_spec_fault(spec);
    GODWIT_CHECK(status.ok() == !fault.has_value());
    if (fault) {
        GODWIT_CHECK(!fault->field.empty() && !fault->message.empty());
        return;
    }
    GODWIT_CHECK(is_vm_name(spec.name()));
    if (spec.domain_xml().empty()) GODWIT_CHECK(spec.memory_bytes() <= kMaxMemoryBytes);
    (void)check_fits(spec.memory_bytes(), {.total = Bytes{1} << 30, .available = 1}, false);
    if (!spec.domain_xml().empty()) (void)spec_of_domain(spec.domain_xml());
}

void take_start(const std::string& bytes) {
    if (v1::StartVmRequest request; request.ParseFromString(bytes)) check_spec(request.spec());
}

void take_prepare(const std::string& bytes) {
    if (v1::PrepareRequest request; request.ParseFromString(bytes)) check_spec(request.spec());
}

void take_migrate(const std::string& bytes) {
    v1::MigrateRequest request;
    if (!request.ParseFromString(bytes)) return;
    const auto settings = migrate_settings(request);
    if (!settings.ok()) {
        GODWIT_CHECK(absl::IsInvalidArgument(settings.status()));
        return;
    }
    GODWIT_CHECK(settings->limits.downtime_limit > Duration::zero());
    GODWIT_CHECK(settings->limits.downtime_limit <= std::chrono::hours(1));
    GODWIT_CHECK(settings->limits.max_rounds >= 1 && settings->limits.max_rounds <= kMaxRounds);
    GODWIT_CHECK(settings->limits.max_data > 0 && settings->limits.max_data <= 1e6);
    GODWIT_CHECK(settings->finish_by >= Duration::zero());
    GODWIT_CHECK(settings->streams <= kMaxDataStreams);
    GODWIT_CHECK(settings->delta_cache_bytes <= kMaxDeltaCacheBytes);
}

void take_dirty_rate(const std::string& bytes) {
    v1::MeasureDirtyRateRequest request;
    if (!request.ParseFromString(bytes)) return;
    const auto windows = dirty_rate_windows(request);
    if (!windows.ok()) return;
    GODWIT_CHECK(!windows->empty() && windows->size() <= 32);
    for (const Duration window : *windows)
        GODWIT_CHECK(window >= std::chrono::milliseconds(1) && window <= std::chrono::minutes(10));
}

void take_plan(const std::string& bytes) {
    v1::PlanRequest request;
    if (!request.ParseFromString(bytes)) return;
    const auto settings = plan_settings(request);
    if (!settings.ok()) {
        GODWIT_CHECK(absl::IsInvalidArgument(settings.status()));
        return;
    }
    GODWIT_CHECK(settings->sample >= kShortestSample && settings->sample <= kLongestSample);
    GODWIT_CHECK(settings->limits.downtime_limit > Duration::zero());
    GODWIT_CHECK(settings->limits.downtime_limit <= std::chrono::hours(1));
    GODWIT_CHECK(settings->finish_by >= Duration::zero());
}

// The file that an earlier agent left.
void take_calibration(const std::string& text) {
    const auto calibration = decode_calibration(text);
    if (!calibration.ok()) {
        GODWIT_CHECK(absl::IsDataLoss(calibration.status()) ||
                     absl::IsFailedPrecondition(calibration.status()));
        return;
    }
    std::vector<PastMigration> past;
    for (const v1::HostPair& pair : calibration->pairs())
        for (const v1::CalibrationEntry& entry : pair.migrations())
            past.push_back(past_migration(entry));
    const PairKnowledge knowledge = learn_from(past, {});
    for (const double number :
         {knowledge.costs.setup_s, knowledge.costs.pause_s, knowledge.costs.per_round_s,
          knowledge.costs.fault_s, knowledge.errors.total.low, knowledge.errors.total.high})
        GODWIT_CHECK(number >= 0 && number <= kLongestTime_s);
    GODWIT_CHECK(knowledge.rate_share >= kLeastRateShare && knowledge.rate_share <= kMostRateShare);
}

void take_small(const std::string& bytes) {
    if (v1::StopVmRequest request; request.ParseFromString(bytes))
        GODWIT_CHECK(api_timeout(request.timeout_ms()) >= Duration::zero());
    if (v1::LimitRequest request; request.ParseFromString(bytes))
        (void)check_bandwidth(request.bandwidth_bytes_per_s());
}

void take_recording(const std::string& bytes) {
    v1::RecordDirtyRequest request;
    if (request.ParseFromString(bytes)) {
        const auto times = recording_times(request);
        if (times.ok()) {
            GODWIT_CHECK(times->length > Duration::zero() &&
                         times->length <= std::chrono::hours(24));
            GODWIT_CHECK(times->window >= std::chrono::milliseconds(10));
            GODWIT_CHECK(times->window <= std::chrono::minutes(10));
        }
    }
    // What an agent says of one: what is stored is a whole trace.
    v1::DirtyRecording message;
    if (!message.ParseFromString(bytes)) return;
    std::stringstream trace;
    TraceRecorder recorder(trace);
    v1::DirtyRecording start;
    start.mutable_start()->add_block_pages(1000);
    GODWIT_CHECK(recorder.take(start).ok());
    if (recorder.take(message).ok() && recorder.finish().ok()) GODWIT_CHECK(read_trace(trace).ok());
}

// What a peer says in an answer ends on a terminal or in a report.
void take_answers(const std::string& bytes) {
    const grpc::Status error(grpc::StatusCode::ABORTED, bytes.substr(0, 100), bytes);
    const absl::Status status = from_grpc(error);
    for (const char c : status.message())
        GODWIT_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
    (void)detail_of(status);
    if (v1::Postcopy postcopy; postcopy.ParseFromString(bytes)) (void)to_json(postcopy).dump();
    if (v1::QueryResponse answer; answer.ParseFromString(bytes)) (void)to_json(answer).dump();
    if (v1::MigrationReport report; report.ParseFromString(bytes)) (void)to_json(report).dump();
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    static const bool quiet = [] {
        google::protobuf::SetLogHandler(nullptr);
        return true;
    }();
    (void)quiet;
    FuzzInputReader input(data, size);
    const uint8_t which = input.u8();
    const std::string bytes(input.text());
    using Take = void (*)(const std::string&);
    static constexpr Take kTakes[] = {take_start,      take_prepare,     take_migrate,
                                      take_dirty_rate, take_small,       take_answers,
                                      take_plan,       take_calibration, take_recording};
    kTakes[which % std::size(kTakes)](bytes);
    return 0;
}
