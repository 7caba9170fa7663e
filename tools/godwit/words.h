// Words: what was typed after `godwit`, and the requests that are made of it.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "godwit/v1/agent.pb.h"
#include "tools/godwit/fleet_command.h"

namespace godwit {

// What was typed.
struct Words {
    std::string agent = "127.0.0.1:7654";
    bool json = false;
    std::string file;
    std::string name;
    std::string migration;
    bool follow = false;
    bool force = false;
    bool detach = false;
    bool all = false;
    bool gang = false;
    bool calibration = false;
    std::string timeout = "30s";
    std::string windows = "50ms,200ms,1s,5s";
    std::string length = "60s";
    std::string window = "100ms";
    std::string output;
    std::string vms;
    std::string schedule = "auto";
    std::string to;
    std::string id;
    std::string strategy = "hybrid";
    std::string tracker = "auto";
    std::string downtime_limit = "50ms";
    std::string threshold;
    uint32_t max_rounds = 30;
    uint32_t parallel = 0;  // VMs at a time; 0: as the schedule has it
    std::string max_data;
    std::string on_no_converge = "default";
    std::string finish_by;
    std::string hold;
    std::string bandwidth = "unlimited";
    std::string streams = "auto";
    std::string congestion_control;
    std::string bind;
    std::string compress = "auto";
    std::string delta_cache = "64MiB";
    bool no_page_hashes = false;
    bool persistent = false;
    bool undefine_source = false;
    bool unsafe = false;
    bool verify = false;
    bool live = false;
    bool postcopy = false;
    uint64_t migrate_timeout = 0;  // seconds; 0: none
    std::string fallback = "none";
    std::string native_destination;
    std::string native_data;
    std::string sample = "10s";
    std::string planned_downtime_limit;  // empty: none is to be held
    std::string guest_at;
    std::string confirm;
    bool takes_signals = false;  // the command handles Ctrl-C itself
};

// A rate as `--bandwidth` has it; 0: no limit. Error: InvalidArgument, naming the flag.
absl::StatusOr<Bytes> parse_bandwidth(const std::string& text);
// Errors: InvalidArgument, naming the flag.
absl::StatusOr<v1::MigrateRequest> migrate_request(const Words& words);
// Whether several VMs are asked for.
inline bool is_fleet(const Words& words) { return words.all || !words.vms.empty(); }
// `request`: migrate_request()'s. Errors: InvalidArgument, naming the flag.
absl::StatusOr<FleetOptions> fleet_options(const Words& words, v1::MigrateRequest request);
v1::ResolveRequest resolve_request(const Words& words);
absl::StatusOr<v1::PlanRequest> plan_request(const Words& words);
absl::StatusOr<v1::MeasureDirtyRateRequest> dirty_rate_request(const Words& words);
absl::StatusOr<v1::RecordDirtyRequest> record_request(const Words& words);

}  // namespace godwit
