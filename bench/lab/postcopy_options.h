// The options of postcopy_bench.
#pragma once

#include <optional>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/lab_options.h"

namespace godwit {

struct PostcopyOptions {
    LabOptions lab;
    std::vector<EngineName> engines;
    GuestConfig guest;  // without its files and CPU
};

// Fills `options` from the command line; else the exit code to end with, after saying why.
std::optional<int> parse_postcopy_options(int argc, char** argv, PostcopyOptions& options);

}  // namespace godwit
