// The options of transport_bench.
#pragma once

#include <optional>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/lab_options.h"
#include "bench/lab/transport_case.h"

namespace godwit {

struct TransportOptions {
    LabOptions lab;
    std::vector<TransportCase> cases;  // with what was overridden
};

// Fills `options` from the command line; else the exit code to end with, after saying why.
std::optional<int> parse_transport_options(int argc, char** argv, TransportOptions& options);

}  // namespace godwit
