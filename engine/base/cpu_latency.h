// CpuLatencyHold: idle CPUs of this host wake quickly while somebody waits for their answers.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// How long an idle CPU may take to wake while a guest is frozen or waits for pages. None: whatever
// the host's settings are.
using CpuLatencyLimit = std::optional<std::chrono::microseconds>;

// While it lives, the kernel lets no idle CPU of the host sleep deeper than that (PM QoS,
// https://docs.kernel.org/power/pm_qos_interface.html); 0: idle CPUs poll. It ends with the
// process, whatever way that ends. A page fault over the network wakes four threads one after
// another: in a VM each costs an interrupt and a halt that go to the hypervisor, on hardware up to
// hundreds of microseconds of a deep sleep.
class CpuLatencyHold {
  public:
    CpuLatencyHold() = default;  // holds nothing
    // Nothing is held for no limit. Errors: those of open and write (no CAP_SYS_ADMIN, no such
    // device in a container).
    static absl::StatusOr<CpuLatencyHold> take(CpuLatencyLimit limit);

    [[nodiscard]] bool holds() const { return fd_.valid(); }

  private:
    UniqueFd fd_;
};

// "off", microseconds from 0 to 1,000,000, or "auto". Errors: InvalidArgument.
absl::StatusOr<CpuLatencyLimit> parse_cpu_latency(std::string_view text);
// What "auto" is where the kernel puts CPUs to sleep by `cpuidle_driver` (its name in sysfs). With
// haltpoll the host is itself a VM, and only polling keeps it out of its hypervisor: 0. Hardware
// has a first sleep that it leaves within 2 us (C1), and the next takes many times as long.
std::chrono::microseconds default_cpu_latency(std::string_view cpuidle_driver);

}  // namespace godwit
