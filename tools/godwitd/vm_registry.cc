#include "tools/godwitd/vm_registry.h"

#include <fmt/format.h>
#include <poll.h>

#include "engine/base/log.h"
#include "engine/guest/vm_file/uuid.h"

namespace godwit {
namespace {

// Collapsing takes about 0.2 ms for each 2 MiB.
constexpr Duration kSettleLimit = std::chrono::minutes(2);

bool is_gone(const Vm& vm) {
    pollfd fd{vm.gone_fd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) > 0;
}

absl::Status name_taken(const std::string& name) {
    return absl::AlreadyExistsError(fmt::format(
        "This agent already has a VM named {}; choose another name, or stop that one", name));
}

}  // namespace

absl::Status VmRegistry::adopt() {
    GODWIT_ASSIGN_OR_RETURN(const auto vms, hypervisor_.adopt());
    const std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Vm>& vm : vms) {
        spdlog::info("VM {}: adopted, pid {}", vm->spec().name(), vm->pid());
        entries_[vm->spec().name()] = {vm, ""};
    }
    return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Vm>> VmRegistry::start(const v1::VmSpec& spec) {
    GODWIT_RETURN_IF_ERROR(reserve(spec.name(), ""));
    absl::StatusOr<std::shared_ptr<Vm>> vm = hypervisor_.start(spec, StartMode::kRun);
    settle(spec.name(), "", vm.ok() ? *vm : nullptr);
    return vm;
}

absl::Status VmRegistry::stop(const std::string& name, bool force, Duration limit) {
    constexpr const char* kHolder = "(being stopped)";
    GODWIT_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm, hold(name, kHolder));
    const absl::Status status = vm->stop(force, limit);
    if (status.ok() || is_gone(*vm))
        remove(name, kHolder);
    else
        release(name, kHolder);
    return status;
}

absl::Status VmRegistry::kill_held(const std::string& name, const std::string& migration_id,
                                   Duration limit) {
    std::shared_ptr<Vm> vm;
    {
        const std::lock_guard lock(mutex_);
        GODWIT_ASSIGN_OR_RETURN(vm, find_locked(name));
        if (entries_[name].migration_id != migration_id)
            return absl::FailedPreconditionError(
                fmt::format("VM {} is not in use by migration {} any more", name, migration_id));
    }
    GODWIT_RETURN_IF_ERROR(vm->kill(limit));
    {
        std::unique_lock lock(mutex_);
        released_.wait_for(lock, limit, [&] {
            const auto entry = entries_.find(name);
            return entry == entries_.end() || entry->second.migration_id != migration_id;
        });
    }
    sweep();
    return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Vm>> VmRegistry::find_locked(const std::string& name) {
    const auto entry = entries_.find(name);
    if (entry == entries_.end() || !entry->second.vm)
        return absl::NotFoundError(fmt::format("This agent has no VM named {}", name));
    return entry->second.vm;
}

// An error is none of "no such VM": under two names one VM would be held twice.
absl::StatusOr<std::string> VmRegistry::own_name(const std::string& name) {
    if (!hypervisor_.finds_vms() || uuid_digits(name).empty()) return name;
    absl::StatusOr<std::string> own = hypervisor_.name_of(name);
    return absl::IsNotFound(own.status()) ? name : own;
}

absl::StatusOr<std::shared_ptr<Vm>> VmRegistry::find(const std::string& name) {
    sweep();
    GODWIT_RETURN_IF_ERROR(look_up(name));
    const std::lock_guard lock(mutex_);
    return find_locked(name);
}

bool VmRegistry::is_left_alone(const std::string& name) {
    {
        const std::lock_guard lock(mutex_);
        if (entries_.contains(name)) return false;
    }
    return hypervisor_.may_have(name);
}

absl::Status VmRegistry::look_up(const std::string& name) {
    if (!hypervisor_.finds_vms()) return absl::OkStatus();
    {
        const std::lock_guard lock(mutex_);
        const auto entry = entries_.find(name);
        if (entry != entries_.end() && (!entry->second.vm || !entry->second.migration_id.empty()))
            return absl::OkStatus();
    }
    absl::StatusOr<std::shared_ptr<Vm>> found = hypervisor_.find(name);
    std::shared_ptr<Vm> old;  // destroyed after the lock is released
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(name);
    if (entry != entries_.end() && (!entry->second.vm || !entry->second.migration_id.empty()))
        return absl::OkStatus();
    if (entry != entries_.end()) {
        old = std::move(entry->second.vm);
        entries_.erase(entry);
    }
    if (!found.ok()) return absl::IsNotFound(found.status()) ? absl::OkStatus() : found.status();
    entries_[name] = {*std::move(found), ""};
    return absl::OkStatus();
}

bool VmRegistry::has(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return entries_.contains(name);
}

std::vector<std::shared_ptr<Vm>> VmRegistry::list() {
    sweep();
    if (const auto names = hypervisor_.names(); names.ok())
        for (const std::string& name : *names) {
            if (has(name)) continue;
            if (const absl::Status status = look_up(name); !status.ok())
                spdlog::warn("VM {}: {}", name, std::string(status.message()));
        }
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Vm>> vms;
    for (const auto& [name, entry] : entries_)
        if (entry.vm) vms.push_back(entry.vm);
    return vms;
}

absl::StatusOr<std::shared_ptr<Vm>> VmRegistry::hold(const std::string& name,
                                                     const std::string& migration_id) {
    sweep();
    GODWIT_RETURN_IF_ERROR(look_up(name));
    std::unique_lock lock(mutex_);
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<Vm> vm, find_locked(name));
    released_.wait_for(lock, kSettleLimit, [&] {
        const auto entry = entries_.find(name);
        return entry == entries_.end() || !entry->second.free_soon;
    });
    GODWIT_ASSIGN_OR_RETURN(vm, find_locked(name));
    std::string& holder = entries_[name].migration_id;
    if (!holder.empty())
        return absl::FailedPreconditionError(
            fmt::format("VM {} is in use by migration {}", name, holder));
    holder = migration_id;
    return vm;
}

void VmRegistry::release(const std::string& name, const std::string& migration_id) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(name);
    if (entry == entries_.end() || entry->second.migration_id != migration_id) return;
    entry->second.migration_id.clear();
    entry->second.free_soon = false;
    released_.notify_all();
}

void VmRegistry::release_soon(const std::string& name, const std::string& migration_id) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(name);
    if (entry != entries_.end() && entry->second.migration_id == migration_id)
        entry->second.free_soon = true;
}

std::string VmRegistry::holder(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(name);
    return entry == entries_.end() ? std::string() : entry->second.migration_id;
}

absl::Status VmRegistry::reserve(const std::string& name, const std::string& migration_id) {
    sweep();
    const std::lock_guard lock(mutex_);
    const auto [entry, fresh] = entries_.try_emplace(name, Entry{nullptr, migration_id});
    return fresh ? absl::OkStatus() : name_taken(name);
}

void VmRegistry::settle(const std::string& name, const std::string& migration_id,
                        std::shared_ptr<Vm> vm) {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(name);
    if (entry == entries_.end() || entry->second.migration_id != migration_id) return;
    if (vm)
        entry->second.vm = std::move(vm);
    else
        entries_.erase(entry);
}

void VmRegistry::remove(const std::string& name, const std::string& migration_id) {
    std::shared_ptr<Vm> vm;
    {
        const std::lock_guard lock(mutex_);
        const auto entry = entries_.find(name);
        if (entry == entries_.end() || entry->second.migration_id != migration_id) return;
        vm = std::move(entry->second.vm);
        entries_.erase(entry);
        released_.notify_all();
    }
    if (!vm) return;
    if (const absl::Status status = hypervisor_.forget(*vm); !status.ok())
        spdlog::warn("VM {}: {}", name, std::string(status.message()));
}

void VmRegistry::sweep() {
    std::vector<std::string> dead;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [name, entry] : entries_)
            if (entry.vm && entry.migration_id.empty() && is_gone(*entry.vm)) dead.push_back(name);
    }
    for (const std::string& name : dead) {
        spdlog::warn("VM {}: its QEMU has ended", name);
        remove(name, "");
    }
}

}  // namespace godwit
