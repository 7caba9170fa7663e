// The options that all programs of the lab have, and what is read from this machine for them.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/lab/peer_argv.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct LabOptions {
    std::string program;         // the benchmark's own name
    std::string engines;         // as parse_engines() reads it
    std::string accel = "auto";  // auto, kvm, tcg
    int repeats = 5;
    int warm_up = 1;
    double idle_percent = 0;  // each run waits for so idle a host; 0: does not
    uint64_t seed = 1;
    Bytes bandwidth = 0;
    Duration downtime_limit = std::chrono::milliseconds(300);
    Duration limit = std::chrono::seconds(60);
    Duration baseline = std::chrono::milliseconds(500);  // the guest is watched before the move
    std::string tracker = "auto";
    std::vector<std::string> migrate_flags;  // further words of `godwit migrate`
    std::string qemu = "qemu-system-x86_64";
    std::string scratch = "/tmp";  // a short path: unix sockets are made below it
    std::string json_path;         // empty: none; "-": stdout, without tables
};

// Adds them, with what they have at the moment as defaults; `options` must outlive `app`.
void add_lab_options(CLI::App& app, LabOptions& options);

// Reads the command line. Else the exit code to end with, after saying why.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv);

// Sizes, rates and durations that must be read into something of ours.
CLI::Option* add_bytes(CLI::App& app, const char* name, Bytes& value, const char* about);
CLI::Option* add_duration(CLI::App& app, const char* name, Duration& value, const char* about);

// What `guest` needs of this machine: accelerator, CPU model for KVM, kernel, firmware. Also finds
// QEMU. Error: NotFound.
absl::Status find_machine(LabOptions& options, const std::string& bin_dir, GuestConfig& guest);

}  // namespace godwit
