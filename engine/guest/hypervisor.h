// The seam to the hypervisor: what the engine asks of a running VM, whoever manages it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/ram_block.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

enum class RunState {
    kRunning,
    kPaused,         // by a user, or loaded and not yet resumed
    kInMigrate,      // waits for or loads an incoming migration
    kFinishMigrate,  // vCPUs stopped, device state not yet complete
    kPostMigrate,    // device state complete, at the source
    kShutdown,       // the guest powered off
    kOther,          // guest-panicked, io-error, …: see run_state_text
};

enum class GuestEventKind {
    kStop,       // vCPUs stopped
    kResume,     // vCPUs run
    kMigration,  // QEMU's migration status changed: `detail` is the status
    kShutdown,   // guest power-off or reset request; `detail` is QEMU's reason
    kGone,       // the hypervisor process ended
    kOther,      // any other event; `detail` is its name
};

struct GuestEvent {
    GuestEventKind kind = GuestEventKind::kOther;
    std::string detail;
    // When it happened, on this host's monotonic clock (QEMU's own stamp, not the time of reading).
    MonotonicTime at{};
};

// What the hypervisor's own migration is to do, and what it says of itself.
struct NativeMove {
    std::string destination;  // how the hypervisor names the other host
    std::string data;         // where its data is to go; empty: as it chooses
    uint64_t bandwidth_bytes_per_s = 0;
    bool with_definition = false;
    bool undefine_source = false;
    bool unsafe = false;  // also where the hypervisor can't see that the disks are shared
};
struct NativeProgress {
    uint64_t total_bytes = 0;
    uint64_t remaining_bytes = 0;
    uint64_t sent_bytes = 0;
    uint32_t pass = 0;
    double downtime_ms = 0;  // expected, and what it was in the end; 0: not told
};

// One VM. Thread-safe, but only one migration may use it at a time. Every call has a deadline
// (QMP may hang) and fails with DeadlineExceeded when it passes, NotFound when the process is gone,
// and otherwise with QEMU's own words in the message.
class Vm {
  public:
    virtual ~Vm() = default;

    [[nodiscard]] virtual const v1::VmSpec& spec() const = 0;
    [[nodiscard]] virtual pid_t pid() const = 0;
    // Tells this process from any other that ever ran a VM of that name on this host.
    [[nodiscard]] virtual std::string incarnation() const = 0;
    // Readable when the hypervisor process has ended (a pidfd).
    [[nodiscard]] virtual int gone_fd() const = 0;
    [[nodiscard]] virtual std::span<const RamBlock> ram_blocks() const = 0;
    // Thread ids of the vCPUs.
    virtual absl::StatusOr<std::vector<pid_t>> vcpu_threads() = 0;

    virtual absl::StatusOr<RunState> run_state() = 0;
    // The hypervisor's status of its own (device-state) migration: "none", "setup", "active",
    // "pre-switchover", "device", "completed", "failed", "cancelled", …
    virtual absl::StatusOr<std::string> migration_status() = 0;

    // Calls `listener` for each event, on the driver's reader thread: it must not block and must
    // not call back into this Vm. One listener at a time; an empty function removes it, and once
    // that returns the old one is not running any more.
    virtual void set_listener(std::function<void(const GuestEvent&)> listener) = 0;

    // Why this VM can't be migrated, one reason per entry in the hypervisor's words; empty: it can.
    virtual absl::StatusOr<std::vector<std::string>> migration_blockers() = 0;
    // Names of devices that give memory back behind every tracker's back (balloon, …).
    [[nodiscard]] virtual std::vector<std::string> discarding_devices() const = 0;

    // Memory devices that were plugged in after the start, by name: none of ram_blocks() holds
    // them.
    virtual absl::StatusOr<std::vector<std::string>> plugged_memory() = 0;

    // Waits until the block layer has no request in flight, while the guest runs on.
    virtual absl::Status drain_block_io(Duration limit) = 0;

    // Source: freeze and save. prepare_device_save() does what can be done before the freeze: where
    // device state goes, `out`, a socket whose other end is being read (half a megabyte may come
    // before the freeze, and QEMU waits for room). begin_device_save() starts the hypervisor's
    // migration of device state: vCPUs stop (event kStop) and it halts in "pre-switchover" (event
    // kMigration). finish_device_save() lets it write the rest: event kMigration "completed" or
    // "failed".
    virtual absl::Status prepare_device_save(UniqueFd out) = 0;
    virtual absl::Status begin_device_save() = 0;
    virtual absl::Status finish_device_save() = 0;
    // Source: begin_device_save() does not follow after all. What prepare_device_save() set up is
    // put back where it would be in the way of others; best effort.
    virtual void forgo_device_save() {}
    // Source: undoes a freeze at any point before COMMIT. The guest runs again when this returns ok
    // (or stays paused when `run` is false: it was paused before).
    virtual absl::Status roll_back(bool run, Duration limit) = 0;

    // Destination. begin_device_load() starts to load from `in`: event kMigration "completed" or
    // "failed" (or kGone). resume() lets the guest run: an error in the hypervisor's words means
    // that it does not. Ended meanwhile: Aborted when it never ran, NotFound when it may have.
    virtual absl::Status begin_device_load(UniqueFd in) = 0;
    virtual absl::Status resume(Duration limit) = 0;
    // resume() comes soon: what can be done for it ahead is. The guest does not run yet.
    virtual void foresee_resume() {}
    // Tells the network where the guest is now; best effort.
    virtual absl::Status announce() = 0;

    // Source: the VM as the destination is to start it. `with_definition`: what is defined of it
    // besides its present run goes along. Errors: InvalidArgument where there is no such thing.
    virtual absl::StatusOr<v1::VmSpec> spec_to_move(bool with_definition) {
        if (with_definition)
            return absl::InvalidArgumentError("only domains of libvirt have a definition to move");
        return spec();
    }
    // Source: the VM has ended, for it is at the destination; its definition is removed.
    // Idempotent.
    virtual absl::Status undefine() {
        return absl::InvalidArgumentError("only domains of libvirt have a definition");
    }
    // Source: the VM has ended, for it is at the destination. What stays here and would run it a
    // second time, one sentence each.
    virtual std::vector<std::string> left_behind() { return {}; }

    // Destination: the guest runs here. Puts back what a migration had set up in the hypervisor,
    // and defines the VM where there is a `definition`: all its pages are here then. Best effort.
    virtual absl::Status arrived(const std::string& definition) {
        static_cast<void>(definition);
        return absl::OkStatus();
    }

    // Source: moves the VM by the hypervisor's own migration, whatever RAM it has; returns when the
    // guest is there, and its process here has ended. `go_on` is called now and then with what is
    // known; false aborts it. Errors: Cancelled when it was aborted, Unimplemented where there is
    // no such thing, else in the hypervisor's words; the guest is at the source then.
    virtual absl::StatusOr<NativeProgress> move_natively(
        const NativeMove& move, const std::function<bool(const NativeProgress&)>& go_on) {
        static_cast<void>(move);
        static_cast<void>(go_on);
        return absl::UnimplementedError("only domains of libvirt have another way to be moved");
    }

    // SIGKILL, then waits until the process is gone (and reaped where it is our child).
    virtual absl::Status kill(Duration limit) = 0;
    // Asks for an orderly power-off (`force`: kill), then removes what belongs to the VM.
    virtual absl::Status stop(bool force, Duration limit) = 0;

    // Where the resident of this VM listens; nobody may listen there (it was not loaded).
    [[nodiscard]] virtual std::string resident_socket() const = 0;

    // How another process (the guard) reaches the same VM: a driver-specific address.
    [[nodiscard]] virtual std::string guard_address() const = 0;
};

enum class StartMode {
    kRun,
    kIncoming,  // paused, RAM file empty, waits for begin_device_load()
};

// What a host can hold and which parts it has.
struct HypervisorInfo {
    std::string name;     // "qemu"
    std::string version;  // "7.2.22"
    bool has_kvm = false;
};

class Hypervisor {
  public:
    virtual ~Hypervisor() = default;

    virtual absl::StatusOr<HypervisorInfo> info() = 0;
    // Whether `spec` could start here, without starting it: boot files and disks exist, the
    // accelerator works, the backing can be mounted. Errors: FailedPrecondition, NotFound,
    // InvalidArgument, each naming the field.
    virtual absl::Status check(const v1::VmSpec& spec) = 0;
    // Starts a VM. Errors: as check(), AlreadyExists (the name), and what the hypervisor printed
    // when it ended at once. On error nothing is left behind, but for DeadlineExceeded: then nobody
    // knows whether the VM has started, and it is ended as soon as the hypervisor answers, unless
    // this agent ends first.
    virtual absl::StatusOr<std::shared_ptr<Vm>> start(const v1::VmSpec& spec, StartMode mode) = 0;
    // VMs that outlived an earlier agent with the same state directory.
    virtual absl::StatusOr<std::vector<std::shared_ptr<Vm>>> adopt() = 0;
    // Whether VMs that nobody here started may be found: then find() and names() tell of those that
    // run, adopted ones among them.
    [[nodiscard]] virtual bool finds_vms() const { return false; }
    // The VM of that name or UUID, looked up anew. Errors: NotFound; FailedPrecondition when it
    // does not run; Unavailable when nobody can tell.
    virtual absl::StatusOr<std::shared_ptr<Vm>> find(const std::string& name) {
        return absl::NotFoundError("no VM named " + name);
    }
    // The name of the VM of that UUID, whether it runs or not. Errors: NotFound; Unavailable and
    // DeadlineExceeded when nobody can tell.
    virtual absl::StatusOr<std::string> name_of(const std::string& uuid) {
        return absl::NotFoundError("no VM with the UUID " + uuid);
    }
    virtual absl::StatusOr<std::vector<std::string>> names() { return std::vector<std::string>(); }
    // Whether a VM of that name may live here, although it could not be adopted or found.
    virtual bool may_have(const std::string& name) = 0;
    // Vm::undefine() for a VM that an earlier agent has ended.
    virtual absl::Status undefine(const std::string& uuid) {
        return absl::InvalidArgumentError("there is no definition of " + uuid);
    }
    // Vm::left_behind() for such a VM.
    virtual std::vector<std::string> left_behind(const std::string& uuid) {
        static_cast<void>(uuid);
        return {};
    }
    // Removes every file of a VM whose process has ended.
    virtual absl::Status forget(Vm& vm) = 0;
    // What guests write to their serial ports must not fill the disk that holds the agent's own
    // files: cuts logs that have grown beyond a limit, the oldest lines first. To be called now and
    // then.
    virtual void trim_serial_logs() = 0;
    // The agent ends: calls that wait for somebody else, here and of every Vm, fail `limit` from
    // now at the latest.
    virtual void end_soon(Duration limit) { static_cast<void>(limit); }
    // The file that holds what the guest wrote to its serial port.
    [[nodiscard]] virtual std::string serial_log_path(const std::string& vm_name) const = 0;
};

}  // namespace godwit
