// VmRegistry: the VMs of this agent by name.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/guest/hypervisor.h"

namespace godwit {

// Thread-safe. A VM whose process has ended by itself is forgotten at the next sweep(), unless a
// migration holds it.
class VmRegistry {
  public:
    explicit VmRegistry(Hypervisor& hypervisor) : hypervisor_(hypervisor) {}

    // VMs that outlived an earlier agent.
    absl::Status adopt();
    // Errors: AlreadyExists, and Hypervisor::start's.
    absl::StatusOr<std::shared_ptr<Vm>> start(const v1::VmSpec& spec);
    // Errors: NotFound, FailedPrecondition while a migration holds it, DeadlineExceeded.
    absl::Status stop(const std::string& name, bool force, Duration limit);
    // Kills a VM that `migration_id` holds, and waits until the migration has seen it.
    // Errors: as stop().
    absl::Status kill_held(const std::string& name, const std::string& migration_id,
                           Duration limit);
    // The name by which everything else here goes: that of the VM whose UUID `name` is, or `name`
    // where there is none. Errors: Hypervisor::name_of()'s, without NotFound.
    absl::StatusOr<std::string> own_name(const std::string& name);
    // Errors: NotFound.
    absl::StatusOr<std::shared_ptr<Vm>> find(const std::string& name);
    std::vector<std::shared_ptr<Vm>> list();
    // Whether there are files of a VM that is not here: it could not be adopted, and may live.
    bool is_left_alone(const std::string& name);

    absl::Status undefine(const std::string& uuid) { return hypervisor_.undefine(uuid); }
    std::vector<std::string> left_behind(const std::string& uuid) {
        return hypervisor_.left_behind(uuid);
    }

    // A migration takes the VM: one at a time. `migration_id` is told to whoever comes second.
    // Errors: NotFound, FailedPrecondition.
    absl::StatusOr<std::shared_ptr<Vm>> hold(const std::string& name,
                                             const std::string& migration_id);
    // Does nothing unless `migration_id` holds it; so does remove().
    void release(const std::string& name, const std::string& migration_id);
    // Says that it will be released in a moment: hold() waits for that.
    void release_soon(const std::string& name, const std::string& migration_id);
    // The migration that holds it, or empty.
    std::string holder(const std::string& name);

    // Reserves the name for an incoming VM. Errors: AlreadyExists.
    absl::Status reserve(const std::string& name, const std::string& migration_id);
    // The VM that was reserved under that id is here (or, with nullptr, will never be: does nothing
    // when the name has gone to somebody else).
    void settle(const std::string& name, const std::string& migration_id, std::shared_ptr<Vm> vm);
    // Takes a VM out whose process is dead: its files are removed.
    void remove(const std::string& name, const std::string& migration_id);

    // Forgets VMs whose process has ended.
    void sweep();

  private:
    struct Entry {
        std::shared_ptr<Vm> vm;  // null: reserved
        std::string migration_id;
        bool free_soon = false;
    };

    absl::StatusOr<std::shared_ptr<Vm>> find_locked(const std::string& name);
    bool has(const std::string& name);
    // Where others start VMs too: looks the VM up anew, unless a migration holds it. Errors: those
    // of Hypervisor::find() that are no NotFound.
    absl::Status look_up(const std::string& name);

    Hypervisor& hypervisor_;
    std::mutex mutex_;
    std::condition_variable released_;
    std::map<std::string, Entry> entries_;  // guarded by mutex_
};

}  // namespace godwit
