#include "tools/godwitd/migrate_settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/handover/journal.h"
#include "tools/godwitd/tracker_choice.h"
#include "transport/stream/tcp_options.h"

namespace godwit {
namespace {

constexpr double kThrottleMaxData = 10;
constexpr uint64_t kLongestDowntimeLimitUs = uint64_t{3600} * 1'000'000;
constexpr uint64_t kLongestFinishByMs = uint64_t{7} * 24 * 3600 * 1000;
constexpr uint64_t kLongestHoldMs = uint64_t{3600} * 1000;
constexpr uint64_t kLongestTimeoutMs = uint64_t{365} * 24 * 3600 * 1000;

template <typename Value>
absl::Status check_range(const char* field, Value value, Value least, Value most) {
    if (value >= least && value <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {}; it must be {} to {}", field, value, least, most));
}

// Everything that is a number, before anything is computed with it: a huge one must not wrap round.
absl::Status check_numbers(const v1::MigrateRequest& request) {
    GODWIT_RETURN_IF_ERROR(check_range<uint64_t>("downtime_limit_us", request.downtime_limit_us(),
                                                 0, kLongestDowntimeLimitUs));
    GODWIT_RETURN_IF_ERROR(
        check_range<uint32_t>("max_rounds", request.max_rounds(), 0, kMaxRounds));
    GODWIT_RETURN_IF_ERROR(check_range<double>("max_data", request.max_data(), 0, 1e6));
    GODWIT_RETURN_IF_ERROR(
        check_range<uint64_t>("finish_by_ms", request.finish_by_ms(), 0, kLongestFinishByMs));
    GODWIT_RETURN_IF_ERROR(check_range<uint64_t>("hold_ms", request.hold_ms(), 0, kLongestHoldMs));
    GODWIT_RETURN_IF_ERROR(check_range<uint32_t>("streams", request.streams(), 0, kMaxDataStreams));
    GODWIT_RETURN_IF_ERROR(check_range<int>("the number of source_addresses",
                                            request.source_addresses_size(), 0, kMaxDataStreams));
    GODWIT_RETURN_IF_ERROR(check_range<uint64_t>("delta_cache_bytes", request.delta_cache_bytes(),
                                                 0, kMaxDeltaCacheBytes));
    return check_bandwidth(request.bandwidth_bytes_per_s());
}

absl::StatusOr<NoConverge> no_converge_of(v1::OnNoConverge asked, Strategy strategy) {
    switch (asked) {
        case v1::ON_NO_CONVERGE_DEFAULT:
            return strategy == Strategy::kHybrid ? NoConverge::kPostcopy : NoConverge::kFail;
        case v1::ON_NO_CONVERGE_FAIL:
            return NoConverge::kFail;
        case v1::ON_NO_CONVERGE_STOP_AND_COPY:
            return NoConverge::kStopAndCopy;
        case v1::ON_NO_CONVERGE_POSTCOPY:
            return NoConverge::kPostcopy;
        case v1::ON_NO_CONVERGE_THROTTLE:
            return NoConverge::kThrottle;
        default:
            return absl::InvalidArgumentError(
                fmt::format("on_no_converge {} is unknown", static_cast<int>(asked)));
    }
}

absl::Status set_limits(const v1::MigrateRequest& request, MigrationSettings& settings) {
    ConvergenceLimits& limits = settings.limits;
    GODWIT_ASSIGN_OR_RETURN(
        limits.strategy,
        parse_strategy(request.strategy().empty() ? "hybrid" : request.strategy()));
    GODWIT_ASSIGN_OR_RETURN(limits.on_no_converge,
                            no_converge_of(request.on_no_converge(), limits.strategy));
    if (request.downtime_limit_us() > 0)
        limits.downtime_limit = std::chrono::microseconds(request.downtime_limit_us());
    limits.threshold = request.threshold_bytes();
    if (request.max_rounds() > 0) limits.max_rounds = request.max_rounds();
    // The vCPUs are held back by steps, and each takes a round.
    if (may_throttle(settings)) limits.max_data = kThrottleMaxData;
    if (request.max_data() > 0) limits.max_data = request.max_data();
    settings.finish_by = std::chrono::milliseconds(request.finish_by_ms());
    if (settings.finish_by > Duration::zero() && limits.strategy == Strategy::kStopAndCopy)
        return absl::InvalidArgumentError(
            "finish_by_ms: stop-and-copy has no live rounds that could be ended for it");
    settings.hold_limit = std::chrono::milliseconds(request.hold_ms());
    if (settings.hold_limit > Duration::zero() && settings.finish_by > Duration::zero())
        return absl::InvalidArgumentError(
            "hold_ms and finish_by_ms: what is held until it is told to proceed keeps no deadline");
    if (settings.hold_limit > Duration::zero() && request.fallback() == "native")
        return absl::InvalidArgumentError(
            "hold_ms: the hypervisor's own migration, which fallback allows, can't be held");
    return absl::OkStatus();
}

absl::Status set_transport(const v1::MigrateRequest& request, MigrationSettings& settings) {
    settings.bandwidth_bytes_per_s = request.bandwidth_bytes_per_s();
    if (request.streams() > 0) settings.streams = static_cast<uint16_t>(request.streams());
    settings.congestion_control = request.congestion_control();
    if (!settings.congestion_control.empty())
        GODWIT_RETURN_IF_ERROR(check_congestion_control(settings.congestion_control));
    settings.source_addresses = {request.source_addresses().begin(),
                                 request.source_addresses().end()};
    for (const std::string& address : settings.source_addresses)
        GODWIT_RETURN_IF_ERROR(check_source_address(address));
    if (!request.compression().empty()) {
        GODWIT_ASSIGN_OR_RETURN(settings.compression, parse_compression(request.compression()));
    }
    if (request.has_delta_cache_bytes()) settings.delta_cache_bytes = request.delta_cache_bytes();
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MigrationSettings> migrate_settings(const v1::MigrateRequest& request) {
    MigrationSettings settings;
    settings.id = request.migration_id();
    if (!settings.id.empty() && !is_valid_id(settings.id))
        return absl::InvalidArgumentError(
            fmt::format("migration_id \"{}\" must be 1 to 64 letters, digits, '.', '_' or '-', the "
                        "first a letter or digit",
                        settings.id));
    GODWIT_ASSIGN_OR_RETURN(settings.destination, parse_host_port(request.destination()));
    GODWIT_RETURN_IF_ERROR(check_numbers(request));
    GODWIT_ASSIGN_OR_RETURN(settings.tracker, tracker_name(request.tracker()));
    GODWIT_RETURN_IF_ERROR(set_limits(request, settings));
    GODWIT_RETURN_IF_ERROR(set_transport(request, settings));
    settings.verify = request.verify();
    settings.with_definition = request.persistent();
    settings.undefine_source = request.undefine_source();
    settings.unsafe = request.unsafe();
    if (!request.fallback().empty() && request.fallback() != "none" &&
        request.fallback() != "native")
        return absl::InvalidArgumentError(
            fmt::format("fallback \"{}\" is neither none nor native", request.fallback()));
    settings.native_fallback = request.fallback() == "native";
    settings.native_destination =
        request.native_destination().empty()
            ? fmt::format("qemu+ssh://{}/system", settings.destination.host)
            : request.native_destination();
    settings.native_data = request.native_data();
    settings.page_hashes = !request.no_page_hashes();
    if (settings.verify && !settings.page_hashes && may_use_postcopy(settings))
        return absl::InvalidArgumentError(
            "no_page_hashes: verify compares with them when the guest resumes before its last "
            "pages are there; take precopy, or do without one of the two");
    return settings;
}

Duration api_timeout(uint64_t timeout_ms) {
    return std::chrono::milliseconds(std::min(timeout_ms, kLongestTimeoutMs));
}

}  // namespace godwit
