#include "tools/godwit/words.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdlib>

#include "tools/godwit/fleet_plan.h"
#include "transport/control/peer.h"

namespace godwit {
namespace {

// Of a gang: how long its members wait for the slowest.
constexpr uint64_t kGangHoldMs = 10 * 60 * 1000;

absl::StatusOr<double> parse_factor(std::string text) {
    if (!text.empty() && (text.back() == 'x' || text.back() == 'X')) text.pop_back();
    char* end = nullptr;
    const double factor = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(factor > 0) || factor > 1e6)
        return absl::InvalidArgumentError("write it as 3x: a multiple of the touched RAM");
    return factor;
}

// 0: as many as help.
absl::StatusOr<uint32_t> parse_streams(const std::string& text) {
    constexpr uint32_t kMostStreams = 16;
    if (text == "auto") return 0U;
    uint32_t streams = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, streams);
    if (error == std::errc() && rest == end && streams >= 1 && streams <= kMostStreams)
        return streams;
    return absl::InvalidArgumentError(
        fmt::format("--streams: {} is neither auto nor 1 to {}", text, kMostStreams));
}

// One VM, or several, by one of three words; and what only several have.
absl::Status check_who(const Words& words) {
    const int ways =
        (words.name.empty() ? 0 : 1) + (words.all ? 1 : 0) + (words.vms.empty() ? 0 : 1);
    if (ways == 0)
        return absl::InvalidArgumentError(
            "NAME is missing: say which VM, or --vms web,db for several, or --all");
    if (ways > 1) return absl::InvalidArgumentError("NAME, --vms and --all: take one of the three");
    if (!is_fleet(words) && (words.schedule != "auto" || words.parallel > 0))
        return absl::InvalidArgumentError(
            "--schedule and --parallel are for several VMs: --vms web,db, or --all");
    if (is_fleet(words) && (words.detach || !words.id.empty()))
        return absl::InvalidArgumentError(
            "--detach and --id are for one VM: with several, somebody has to begin the next");
    if (words.schedule == "serial" && words.parallel > 1)
        return absl::InvalidArgumentError("--parallel: --schedule serial has one at a time");
    if (words.gang && !is_fleet(words))
        return absl::InvalidArgumentError(
            "--gang is for VMs that belong together: --vms web,db, or --all");
    if (words.gang && (words.schedule != "auto" || words.parallel > 0))
        return absl::InvalidArgumentError(
            "--gang moves all at once: leave --schedule and --parallel out");
    if (is_fleet(words) && !words.gang && !words.hold.empty())
        return absl::InvalidArgumentError(
            "--hold is for one VM, or for several with --gang: the next would never begin");
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Bytes> parse_bandwidth(const std::string& text) {
    if (text == "unlimited") return Bytes{0};
    const bool is_number =
        !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const auto bandwidth = parse_rate(is_number ? text + "MiB/s" : text);
    if (!bandwidth.ok()) return annotate(bandwidth.status(), "--bandwidth");
    if (*bandwidth < 1024)
        return absl::InvalidArgumentError("--bandwidth: it must be at least 1KiB/s");
    return *bandwidth;
}

absl::StatusOr<v1::MigrateRequest> migrate_request(const Words& words) {
    GODWIT_RETURN_IF_ERROR(check_who(words));
    v1::MigrateRequest request;
    request.set_vm(words.name);
    GODWIT_RETURN_IF_ERROR(annotate(parse_host_port(words.to).status(), "--to"));
    request.set_destination(words.to);
    request.set_migration_id(words.id);
    request.set_strategy(words.strategy);
    request.set_tracker(words.tracker);
    const auto limit = parse_duration(words.downtime_limit);
    if (!limit.ok()) return annotate(limit.status(), "--downtime-limit");
    const auto limit_us = std::chrono::duration_cast<std::chrono::microseconds>(*limit).count();
    if (limit_us < 1)
        return absl::InvalidArgumentError("--downtime-limit: it must be at least 1us");
    request.set_downtime_limit_us(static_cast<uint64_t>(limit_us));
    if (!words.threshold.empty()) {
        const auto threshold = parse_bytes(words.threshold);
        if (!threshold.ok()) return annotate(threshold.status(), "--threshold");
        request.set_threshold_bytes(*threshold);
    }
    request.set_max_rounds(words.max_rounds);
    if (!words.max_data.empty()) {
        const auto max_data = parse_factor(words.max_data);
        if (!max_data.ok()) return annotate(max_data.status(), "--max-data");
        request.set_max_data(*max_data);
    }
    request.set_on_no_converge(words.on_no_converge == "fail" ? v1::ON_NO_CONVERGE_FAIL
                               : words.on_no_converge == "stop-and-copy"
                                   ? v1::ON_NO_CONVERGE_STOP_AND_COPY
                               : words.on_no_converge == "postcopy" ? v1::ON_NO_CONVERGE_POSTCOPY
                               : words.on_no_converge == "throttle" ? v1::ON_NO_CONVERGE_THROTTLE
                                                                    : v1::ON_NO_CONVERGE_DEFAULT);
    if (!words.finish_by.empty()) {
        const auto finish_by = parse_duration(words.finish_by);
        if (!finish_by.ok()) return annotate(finish_by.status(), "--finish-by");
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(*finish_by).count();
        if (ms < 1) return absl::InvalidArgumentError("--finish-by: it must be at least 1ms");
        request.set_finish_by_ms(static_cast<uint64_t>(ms));
    }
    if (words.gang) request.set_hold_ms(kGangHoldMs);
    if (!words.hold.empty()) {
        const auto hold = parse_duration(words.hold);
        if (!hold.ok()) return annotate(hold.status(), "--hold");
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(*hold).count();
        if (ms < 1) return absl::InvalidArgumentError("--hold: it must be at least 1ms");
        request.set_hold_ms(static_cast<uint64_t>(ms));
    }
    if (words.migrate_timeout > 0) request.set_finish_by_ms(words.migrate_timeout * 1000);
    if (words.postcopy && words.strategy != "hybrid" && words.strategy != "postcopy")
        return absl::InvalidArgumentError(
            "--postcopy: it is --strategy hybrid, or postcopy; leave one of the two out");
    GODWIT_ASSIGN_OR_RETURN(const Bytes bandwidth, parse_bandwidth(words.bandwidth));
    request.set_bandwidth_bytes_per_s(bandwidth);
    GODWIT_ASSIGN_OR_RETURN(const uint32_t streams, parse_streams(words.streams));
    request.set_streams(streams);
    request.set_congestion_control(words.congestion_control);
    if (!words.bind.empty())
        for (const auto address : absl::StrSplit(words.bind, ','))
            request.add_source_addresses(std::string(address));
    request.set_verify(words.verify);
    request.set_compression(words.compress);
    const auto delta_cache = parse_bytes(words.delta_cache);
    if (!delta_cache.ok()) return annotate(delta_cache.status(), "--delta-cache");
    request.set_delta_cache_bytes(*delta_cache);
    request.set_no_page_hashes(words.no_page_hashes);
    request.set_persistent(words.persistent);
    request.set_undefine_source(words.undefine_source);
    request.set_unsafe(words.unsafe);
    request.set_fallback(words.fallback);
    request.set_native_destination(words.native_destination);
    request.set_native_data(words.native_data);
    return request;
}

absl::StatusOr<FleetOptions> fleet_options(const Words& words, v1::MigrateRequest request) {
    FleetOptions options{.schedule = words.schedule,
                         .parallel = words.parallel,
                         .gang = words.gang,
                         .request = std::move(request),
                         .json = words.json};
    if (!words.all) {
        GODWIT_ASSIGN_OR_RETURN(options.vms, parse_vm_names(words.vms));
    }
    return options;
}

v1::ResolveRequest resolve_request(const Words& words) {
    v1::ResolveRequest request;
    request.set_migration(words.migration);
    request.set_guest_at(words.guest_at == "source"        ? v1::GUEST_AT_SOURCE
                         : words.guest_at == "destination" ? v1::GUEST_AT_DESTINATION
                                                           : v1::GUEST_AT_NONE);
    request.set_confirm(words.confirm);
    return request;
}

absl::StatusOr<v1::PlanRequest> plan_request(const Words& words) {
    v1::PlanRequest request;
    if (words.name.empty())
        return absl::InvalidArgumentError("Say which VM is to be planned for: godwit plan NAME");
    if (words.to.empty())
        return absl::InvalidArgumentError("--to: say HOST:PORT of the destination's agent");
    request.set_vm(words.name);
    GODWIT_RETURN_IF_ERROR(annotate(parse_host_port(words.to).status(), "--to"));
    request.set_destination(words.to);
    request.set_tracker(words.tracker);
    const auto sample = parse_duration(words.sample);
    if (!sample.ok()) return annotate(sample.status(), "--sample");
    if (*sample < std::chrono::milliseconds(100) || *sample > std::chrono::minutes(10))
        return absl::InvalidArgumentError(
            fmt::format("--sample: {} is not within 100ms to 10m", words.sample));
    request.set_sample_us(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(*sample).count()));
    if (!words.planned_downtime_limit.empty()) {
        const auto limit = parse_duration(words.planned_downtime_limit);
        if (!limit.ok()) return annotate(limit.status(), "--downtime-limit");
        const auto limit_us = std::chrono::duration_cast<std::chrono::microseconds>(*limit).count();
        if (limit_us < 1)
            return absl::InvalidArgumentError("--downtime-limit: it must be at least 1us");
        request.set_downtime_limit_us(static_cast<uint64_t>(limit_us));
    }
    if (!words.finish_by.empty()) {
        const auto finish_by = parse_duration(words.finish_by);
        if (!finish_by.ok()) return annotate(finish_by.status(), "--finish-by");
        const auto finish_by_ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(*finish_by).count();
        if (finish_by_ms < 1)
            return absl::InvalidArgumentError("--finish-by: it must be at least 1ms");
        request.set_finish_by_ms(static_cast<uint64_t>(finish_by_ms));
    }
    GODWIT_ASSIGN_OR_RETURN(const Bytes bandwidth, parse_bandwidth(words.bandwidth));
    request.set_bandwidth_bytes_per_s(bandwidth);
    return request;
}

absl::StatusOr<v1::MeasureDirtyRateRequest> dirty_rate_request(const Words& words) {
    v1::MeasureDirtyRateRequest request;
    request.set_name(words.name);
    request.set_tracker(words.tracker);
    const std::vector<std::string> texts = absl::StrSplit(words.windows, ',');
    for (const std::string& text : texts) {
        const auto window = parse_duration(text);
        if (!window.ok()) return annotate(window.status(), "--windows");
        if (*window < std::chrono::milliseconds(1) || *window > std::chrono::minutes(10))
            return absl::InvalidArgumentError(
                fmt::format("--windows: {} is not within 1ms to 10m", text));
        request.add_windows_us(static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(*window).count()));
    }
    return request;
}

absl::StatusOr<v1::RecordDirtyRequest> record_request(const Words& words) {
    v1::RecordDirtyRequest request;
    request.set_name(words.name);
    request.set_tracker(words.tracker);
    const auto length = parse_duration(words.length);
    if (!length.ok()) return annotate(length.status(), "--for");
    if (*length < std::chrono::milliseconds(100) || *length > std::chrono::hours(24))
        return absl::InvalidArgumentError(
            fmt::format("--for: {} is not within 100ms to 1440m", words.length));
    const auto window = parse_duration(words.window);
    if (!window.ok()) return annotate(window.status(), "--window");
    if (*window < std::chrono::milliseconds(10) || *window > std::chrono::minutes(10))
        return absl::InvalidArgumentError(
            fmt::format("--window: {} is not within 10ms to 10m", words.window));
    request.set_duration_ms(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(*length).count()));
    request.set_window_us(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(*window).count()));
    return request;
}

}  // namespace godwit
