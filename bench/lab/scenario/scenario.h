// Scenarios: which guest moves over which link by which engines, as data. A file of
// bench/scenarios is one or several of them; README.md there has every key.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/micro_bench.h"
#include "bench/lab/peer_argv.h"
#include "bench/lab/target.h"
#include "engine/base/clock.h"
#include "engine/base/cpu_latency.h"

namespace godwit {

struct LinkConfig {
    Bytes bytes_per_s = 0;  // 0: unlimited
    Bytes burst = 0;        // that go at once before the rate holds; 0: the lab's own
    Duration delay{};       // of one direction
    // A network of its own rather than loopback.
    [[nodiscard]] bool cable() const { return bytes_per_s > 0 || delay > Duration::zero(); }
};

// One engine with its knobs: a row. The label has every value that the file gives for it.
struct Row {
    std::string label;
    EngineName engine;
    GuestConfig guest;
    std::vector<GuestConfig> fleet;          // all guests of a fleet, `guest` is the first
    MicroBench micro;                        // a micro-benchmark's
    std::string tracker = "auto";            // Godwit's
    std::vector<std::string> migrate_flags;  // Godwit's
    nlohmann::json qemu_parameters = nlohmann::json::object();
    Bytes bandwidth = 0;
    Duration downtime_limit = std::chrono::milliseconds(300);
    // A peer's: of the whole host while it moves. Godwit sees to it by itself.
    CpuLatencyLimit cpu_latency = std::nullopt;
};

// Peers as in Target; none: the median itself is compared with the bound.
struct AskedTarget {
    Target target;
    std::string issue;        // who asks: "transport", "post-copy", "tracker"
    bool difference = false;  // ours less theirs, rather than a ratio; at most
    bool slowest = false;     // beside the slowest of the peers rather than the fastest
};

struct Scenario {
    std::string name;  // the file's, with "/key=value" for each swept key of guest and link
    std::string about;
    std::vector<std::string> sets;
    std::string accel = "auto";
    LinkConfig link;
    std::chrono::microseconds watch{100};
    Duration before = std::chrono::milliseconds(500);
    Duration after{};
    Duration stay{};                           // so long a guest is watched that is not moved
    Duration limit = std::chrono::minutes(3);  // of one move
    int repeats = 0;                           // 0: the run's own
    std::vector<Row> rows;
    std::vector<AskedTarget> targets;
};

// Of one file, all scenarios together; a sweep of sweeps would be as long as it likes.
inline constexpr size_t kMaxRowsOfFile = 1000;

// The scenarios of one file; `file` is for messages. Errors: InvalidArgument, "FILE:LINE: KEY:
// what is wrong", with the nearest known key for an unknown one.
absl::StatusOr<std::vector<Scenario>> parse_scenarios(const std::string& text,
                                                      const std::string& file);

}  // namespace godwit
