// The micro-benchmarks as rows of the lab: a program beside godwit-lab that measures one case and
// tells it as Google Benchmark's JSON.
#pragma once

#include <string>

#include "bench/lab/statistics.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct MicroBench {
    std::string program;  // tracker_bench, transport_micro_bench, fault_bench, bitmap_bench
    std::string name;     // of the case: the whole name, or what stands before a slash in it
};

// Runs the program of `bin_dir`. Returns every number that it tells of the case, as
// "kvm_ms_per_GiB", and total_ms: of one turn. Errors: NotFound when there is no such program;
// FailedPrecondition when it fails or measured nothing; DeadlineExceeded, Cancelled.
absl::StatusOr<Metrics> run_micro_bench(const std::string& bin_dir, const MicroBench& bench,
                                        Duration limit, int cancel_fd);

// Of its output. Errors: FailedPrecondition: no case, several, or one that says why it failed.
absl::StatusOr<Metrics> parse_micro_bench(const std::string& json);

}  // namespace godwit
