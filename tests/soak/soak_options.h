// The command line of the soak.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bench/lab/lab_options.h"
#include "engine/base/clock.h"

namespace godwit {

struct SoakOptions {
    LabOptions lab;
    Duration length = std::chrono::hours(1);
    uint64_t moves = 0;  // end after so many as well; 0: no such end
    uint64_t seed = 0;   // drawn unless given
    std::string keep;    // a directory for what there is to read after a finding; empty: none
};

// Reads the command line. Else the exit code to end with, after saying why.
std::optional<int> parse_soak_options(int argc, char** argv, SoakOptions& options);

// As parse_duration(), and hours: "1h". Errors: InvalidArgument.
absl::StatusOr<Duration> parse_long_duration(const std::string& text);

}  // namespace godwit
