#include "tools/godwitd/incoming_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/guest/disks/same_disks.h"
#include "engine/postcopy/postcopy_problems.h"
#include "engine/source/settings.h"
#include "tools/godwitd/host_memory.h"
#include "tools/godwitd/incoming_load.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

// QEMU's own needs beside guest RAM; a headless q35 takes 60–90 MB.
constexpr Bytes kQemuBytes = Bytes{128} << 20;

PrepareRefusal refuse(const char* reason, absl::Status status) {
    return {reason, std::move(status)};
}

// The files of the spec, which were checked to be files; whatever else the peer names is not read.
absl::Status check_boot_files(const v1::PrepareRequest& request) {
    const v1::VmSpec& spec = request.spec();
    for (const std::string& path : {spec.kernel(), spec.initrd(), spec.firmware()}) {
        if (path.empty()) continue;
        const auto theirs =
            std::find_if(request.boot_files().begin(), request.boot_files().end(),
                         [&](const v1::BootFile& file) { return file.path() == path; });
        if (theirs == request.boot_files().end())
            return absl::InvalidArgumentError(
                fmt::format("the source does not say what is in its {}", path));
        GODWIT_ASSIGN_OR_RETURN(const Hash128 hash, hash_file(path));
        if (to_hex(hash) != theirs->hash())
            return absl::FailedPreconditionError(fmt::format(
                "{} differs from the source's file of that name; copy it from there", path));
    }
    return absl::OkStatus();
}

absl::Status check_room(const v1::PrepareRequest& request, bool overcommit) {
    GODWIT_ASSIGN_OR_RETURN(const HostMemory memory, read_host_memory());
    GODWIT_RETURN_IF_ERROR(check_fits(request.spec().memory_bytes(), memory, overcommit));
    if (memory.available >= kQemuBytes && request.touched_bytes() <= memory.available - kQemuBytes)
        return absl::OkStatus();
    return absl::ResourceExhaustedError(
        fmt::format("No room: the VM has touched {}, and {} are available here",
                    format_bytes(request.touched_bytes()), format_bytes(memory.available)));
}

}  // namespace

IncomingRegistry::~IncomingRegistry() {
    resumers_.clear();
    std::map<std::string, std::shared_ptr<IncomingMigration>> incoming;
    {
        const std::lock_guard lock(mutex_);
        incoming.swap(incoming_);
    }
}

PrepareRefusal IncomingRegistry::check(const v1::PrepareRequest& request,
                                       v1::PrepareResponse& response) {
    if (request.protocol_version() != kProtocolVersion)
        return refuse("PROTOCOL_VERSION",
                      absl::FailedPreconditionError(fmt::format(
                          "Transfer protocol {} meets {}: upgrade the older of the two agents",
                          request.protocol_version(), kProtocolVersion)));
    if (!is_valid_id(request.migration_id()) || request.streams() < 1 ||
        request.streams() > kMaxDataStreams || request.blocks_size() == 0)
        return refuse("BAD_REQUEST", absl::InvalidArgumentError("Malformed Prepare request"));
    const bool held_here = vms_.holder(request.spec().name()) == request.migration_id();
    {
        const std::lock_guard lock(mutex_);
        if (held_here && !incoming_.contains(request.migration_id()))
            return refuse("SAME_AGENT", absl::FailedPreconditionError(
                                            "This agent is the source itself: the VM is here"));
        if (incoming_.contains(request.migration_id()) ||
            Journal::exists(options_.state_dir, request.migration_id()))
            return refuse("MIGRATION_EXISTS",
                          absl::AlreadyExistsError(
                              fmt::format("Migration {} was here before", request.migration_id())));
        if (is_full(request.migration_id()))
            return refuse("BUSY", absl::ResourceExhaustedError("Too many incoming migrations"));
    }
    if (const absl::Status status = hypervisor_.check(request.spec()); !status.ok())
        return refuse(absl::IsResourceExhausted(status) ? "NO_ROOM" : "SPEC_NOT_RUNNABLE", status);
    if (request.postcopy() == v1::POSTCOPY_USE_NEEDED) {
        if (const std::vector<std::string> problems = postcopy_problems(); !problems.empty())
            return refuse("NO_POSTCOPY",
                          absl::FailedPreconditionError(fmt::format(
                              "A guest can't resume here before its last pages are there: {}; or "
                              "take --strategy precopy",
                              fmt::join(problems, "; "))));
    }
    if (const absl::Status status = check_boot_files(request); !status.ok())
        return refuse("BOOT_FILE_DIFFERS", status);
    absl::StatusOr<DiskIdentities> disks = identities_of(request.spec(), this_host());
    if (!disks.ok()) return refuse("SPEC_NOT_RUNNABLE", disks.status());
    *response.mutable_disks() = *std::move(disks);
    if (const absl::Status status = check_same_disks(request.disks(), response.disks());
        !status.ok())
        return refuse("DISK_DIFFERS", status);
    if (const absl::Status status = check_room(request, options_.overcommit); !status.ok())
        return refuse("NO_ROOM", status);
    return {};
}

bool IncomingRegistry::is_full(const std::string& but_for) const {
    IncomingLoad load;
    for (const auto& [id, incoming] : incoming_)
        load.add(incoming->state().state(), incoming->ended());
    for (const std::string& id : preparing_)
        if (id != but_for && !incoming_.contains(id)) load.add_prepared();
    return load.is_full();
}

PrepareRefusal IncomingRegistry::prepare(const v1::PrepareRequest& request,
                                         v1::PrepareResponse& response) {
    sweep();
    // The same id at the same time would share a journal.
    {
        const std::lock_guard lock(mutex_);
        if (!preparing_.insert(request.migration_id()).second)
            return refuse("MIGRATION_EXISTS",
                          absl::AlreadyExistsError(fmt::format(
                              "Migration {} is being prepared already", request.migration_id())));
    }
    PrepareRefusal refusal = prepare_new(request, response);
    const std::lock_guard lock(mutex_);
    preparing_.erase(request.migration_id());
    return refusal;
}

PrepareRefusal IncomingRegistry::prepare_new(const v1::PrepareRequest& request,
                                             v1::PrepareResponse& response) {
    const MonotonicTime begin = Clock::system().now();
    const std::string& name = request.spec().name();
    const std::string& id = request.migration_id();
    if (PrepareRefusal refusal = check(request, response); !refusal.status.ok()) return refusal;
    if (const absl::Status status = vms_.reserve(name, request.migration_id()); !status.ok())
        return refuse("NAME_TAKEN", status);

    absl::StatusOr<std::unique_ptr<IncomingMigration>> started =
        IncomingMigration::start(request, dependencies_of(id));
    if (!started.ok()) {
        vms_.settle(name, id, nullptr);
        const std::lock_guard lock(mutex_);
        v1::QueryResponse refused;
        refused.set_state(v1::INCOMING_STATE_REFUSED);
        refused.set_detail(std::string(started.status().message()));
        keep_answer(id, refused);
        return refuse("START_FAILED", started.status());
    }
    const std::shared_ptr<IncomingMigration> incoming = *std::move(started);
    vms_.settle(name, id, incoming->vm());
    const auto blocks = incoming->vm()->ram_blocks();
    bool same = blocks.size() == static_cast<size_t>(request.blocks_size());
    for (int i = 0; same && i < request.blocks_size(); ++i)
        same = blocks[i].name == request.blocks(i).name() &&
               blocks[i].size == request.blocks(i).size_bytes();
    if (!same) {
        incoming->abort("RAM layout differs").IgnoreError();
        return refuse("RAM_LAYOUT", absl::FailedPreconditionError(
                                        "The RAM blocks differ from the source's: the two agents "
                                        "lay out this VM's memory differently"));
    }
    if (const absl::Status room = admit(request, incoming); !room.ok()) {
        incoming->abort(std::string(room.message())).IgnoreError();
        return refuse("NO_ROOM", room);
    }
    response.set_session_token(std::string(reinterpret_cast<const char*>(incoming->token().data()),
                                           incoming->token().size()));
    response.set_data_port(incoming->data_port());
    response.set_prepare_ms(to_ms(Clock::system().now() - begin));
    response.set_hypervisor_version(options_.hypervisor_version);
    response.set_postcopy_problem(incoming->postcopy_problem());
    return {};
}

absl::Status IncomingRegistry::admit(const v1::PrepareRequest& request,
                                     const std::shared_ptr<IncomingMigration>& incoming) {
    const auto blocks = incoming->vm()->ram_blocks();
    const std::lock_guard lock(mutex_);
    Bytes promised = 0;
    for (const auto& [id, touched] : touched_)
        if (const auto other = incoming_.find(id);
            other != incoming_.end() && !other->second->ended())
            promised += still_to_come(other->second->vm()->ram_blocks(), touched, blocks);
    GODWIT_RETURN_IF_ERROR(check_mounts_have_room(blocks, request.touched_bytes(), promised));
    incoming_[request.migration_id()] = incoming;
    touched_[request.migration_id()] = request.touched_bytes();
    return absl::OkStatus();
}

IncomingMigration::Dependencies IncomingRegistry::dependencies_of(const std::string& id) {
    return {.hypervisor = &hypervisor_,
            .state_dir = options_.state_dir,
            .listen_host = options_.listen_host,
            .ring = options_.ring,
            .placement = options_.placement,
            .on_refused = [this, id](const std::string& vm) { vms_.settle(vm, id, nullptr); },
            .on_settling = [this, id](const std::string& vm) { vms_.release_soon(vm, id); },
            .on_resumed = [this, id](const std::string& vm) { vms_.release(vm, id); },
            .at_step = options_.at_step};
}

void IncomingRegistry::keep_answer(const std::string& id, const v1::QueryResponse& answer) {
    if (ended_.insert_or_assign(id, answer).second) ended_order_.push_back(id);
    while (ended_order_.size() > kMaxEnded) {
        std::error_code ignored;
        std::filesystem::remove_all(
            fmt::format("{}/migrations/{}", options_.state_dir, ended_order_.front()), ignored);
        ended_.erase(ended_order_.front());
        ended_order_.pop_front();
    }
}

void IncomingRegistry::sweep() {
    // Destroyed after the lock is released.
    std::vector<std::shared_ptr<IncomingMigration>> ended;
    const std::lock_guard lock(mutex_);
    for (auto entry = incoming_.begin(); entry != incoming_.end();) {
        const v1::QueryResponse state = entry->second->state();
        if (entry->second->ended()) {
            keep_answer(entry->first, state);
            ended.push_back(std::move(entry->second));
            touched_.erase(entry->first);
            entry = incoming_.erase(entry);
        } else {
            ++entry;
        }
    }
}

absl::Status IncomingRegistry::abort(const std::string& id, const std::string& reason) {
    std::shared_ptr<IncomingMigration> incoming;
    {
        const std::lock_guard lock(mutex_);
        const auto entry = incoming_.find(id);
        if (entry == incoming_.end()) return absl::OkStatus();  // nothing waits here
        incoming = entry->second;
    }
    return incoming->abort(reason);
}

v1::QueryResponse IncomingRegistry::query(const std::string& id) {
    const std::lock_guard lock(mutex_);
    if (const auto entry = incoming_.find(id); entry != incoming_.end())
        return entry->second->state();
    if (const auto entry = ended_.find(id); entry != ended_.end()) return entry->second;
    return {};
}

v1::ReconnectResponse IncomingRegistry::reconnect(const std::string& id) {
    std::shared_ptr<IncomingMigration> incoming;
    {
        const std::lock_guard lock(mutex_);
        if (const auto entry = incoming_.find(id); entry != incoming_.end())
            incoming = entry->second;
    }
    if (incoming) return incoming->reconnect();
    v1::ReconnectResponse response;
    *response.mutable_state() = query(id);
    return response;
}

bool IncomingRegistry::is_draining(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto entry = incoming_.find(id);
    return entry != incoming_.end() ? entry->second->state().draining() : recovering_.contains(id);
}

}  // namespace godwit
