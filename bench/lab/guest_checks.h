// What the guest itself says of its memory, before and after it was moved.
#pragma once

#include <cstdint>

#include "bench/lab/engine.h"

namespace godwit {

// Error: DataLoss when it has found a bad page, or does not run.
absl::Status well_before(Engine& engine);

// Waits until it was seen to run where it is now, so that what a sampler saw ends with that.
// Errors: DeadlineExceeded, Cancelled.
absl::Status ticks_there(Engine& engine, int cancel_fd);

// It makes `turns` more than `last_tick`, and is left to check pages (it checks each that it
// writes) until it has checked as many as it has, or for a second. Errors: DataLoss when it found a
// bad page; DeadlineExceeded when it does not go on; Cancelled.
absl::Status goes_on(Engine& engine, uint64_t last_tick, uint64_t turns, int cancel_fd);

}  // namespace godwit
