// The options of postcopy_bench.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/measure.h"
#include "bench/lab/peer_argv.h"

namespace godwit {

struct BenchOptions {
    std::vector<EngineName> engines;
    GuestConfig guest;  // without its files and CPU
    std::string accel;  // auto, kvm, tcg
    int repeats = 5;
    int warm_up = 1;
    double idle_percent = 0;  // each run waits for so idle a host; 0: does not
    Bytes bandwidth = 0;
    Duration downtime_limit{};
    Duration limit{};
    std::string tracker;
    std::string qemu;
    std::string scratch = "/tmp";  // a short path: unix sockets are made below it
    std::string json_path;         // empty: none; "-": stdout, without tables
    MeasureOptions measure;
};

// Fills `options` from the command line; else the exit code to end with, after saying why.
std::optional<int> parse_bench_options(int argc, char** argv, BenchOptions& options);

// The order of the engines in one repeat, the same for the same seed.
std::vector<size_t> shuffled(size_t count, uint64_t seed, int repeat);

}  // namespace godwit
