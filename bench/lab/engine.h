// Engine: the seam between what is compared and how it is measured. An engine runs the guest, moves
// it once and knows where it is; whoever measures it does everything else.
#pragma once

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/guest/mailbox_reader.h"
#include "bench/guest/tick_source.h"
#include "bench/lab/cpu_time.h"
#include "bench/lab/engine_name.h"
#include "bench/lab/lab_host.h"
#include "bench/lab/peer_argv.h"
#include "bench/lab/statistics.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/guest/qemu/ram_mount.h"

namespace godwit {

class AgentPair;
class LibvirtPair;

// What all engines are given alike.
struct LabSetup {
    GuestConfig guest;
    std::string qemu;     // the program
    Bytes bandwidth = 0;  // bytes per second; 0: unlimited
    Duration downtime_limit{};
    Duration limit{};                        // of one migration
    std::string tracker;                     // Godwit's
    std::vector<std::string> migrate_flags;  // further words of `godwit migrate`
    std::vector<GuestConfig> fleet;          // of kFleet: its guests, `guest` is the first
    // QEMU's own, on top of what its mode has (migrate-set-parameters).
    nlohmann::json qemu_parameters = nlohmann::json::object();
    std::array<LabHost, 2> hosts;  // source, destination
    int cancel_fd = -1;            // ends every wait
    RamMounts* mounts = nullptr;
    AgentPair* agents = nullptr;
    LibvirtPair* libvirt = nullptr;  // null where no libvirt is asked for
};

// One guest, moved once. The destructor ends every process of it and removes its RAM, at any
// moment. Thread rule: one thread.
class Engine {
  public:
    virtual ~Engine() = default;

    // Starts the guest and waits until it says `running`, which one with a service does not.
    virtual absl::Status start_guest() = 0;
    // Where its ticks are to be seen, at the source and, sooner or later, at the destination.
    virtual std::vector<std::shared_ptr<TickSource>> ticks() = 0;
    // From the request (before the destination's QEMU is started) to the last page.
    virtual absl::StatusOr<Metrics> move() = 0;
    // After move(): what takes time to ask for. Both together have total_ms and downtime_ms, and
    // what else the engine knows.
    virtual absl::StatusOr<Metrics> details() { return Metrics{}; }
    // After move(): what happened when, as the engine tells it: an object of arrays ("rounds",
    // "latency_us"), for charts.
    virtual absl::StatusOr<nlohmann::json> series() { return nlohmann::json::object(); }
    // The guest's mailbox where it is now.
    virtual absl::StatusOr<MailboxReader> mailbox() = 0;
    // What all processes that run and move the guest have used since they began, those that have
    // ended by now included: only differences mean something.
    virtual absl::StatusOr<CpuSeconds> cpu() = 0;
};

// Errors: Unimplemented when this build or machine does not have it.
absl::StatusOr<std::unique_ptr<Engine>> make_engine(const EngineName& name, const LabSetup& setup);

// Waits until the guest has booted. Errors: what it complains of; DeadlineExceeded; Cancelled.
absl::Status wait_until_running(const MailboxReader& mailbox, int cancel_fd);

}  // namespace godwit
