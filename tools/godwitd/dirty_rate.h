// The unique-dirty curve U(t) of a running VM, measured without migrating it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/guest/hypervisor.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

// What is asked for, ascending and without repetitions; the default windows for none.
// Error: InvalidArgument.
absl::StatusOr<std::vector<Duration>> dirty_rate_windows(
    const v1::MeasureDirtyRateRequest& request);

// Waits until `moment` has come; `cancelled` is asked every 100 ms. Errors: Cancelled, NotFound
// when the VM ended.
absl::Status watch_until(Vm& vm, MonotonicTime moment, const std::function<bool()>& cancelled);

// Arms the tracker once and collects at the end of each window: a page costs the guest one fault at
// the most, or, by uffd-wp (whose collect arms again), one a window. `cancelled` is asked every 100
// ms. Nothing is armed when it returns. Errors: the tracker's, Cancelled, NotFound when the VM
// ended.
absl::StatusOr<v1::DirtyRate> measure_dirty_rate(Vm& vm, const std::string& tracker_name,
                                                 const std::vector<Duration>& windows,
                                                 const std::function<bool()>& cancelled);

}  // namespace godwit
