#include "tools/godwitd/incoming_registry.h"

#include <fmt/format.h>

#include <filesystem>

#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/source/settings.h"
#include "tools/godwitd/host_memory.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

// QEMU's own needs beside guest RAM; a headless q35 takes 60–90 MB.
constexpr Bytes kQemuBytes = Bytes{128} << 20;
constexpr Duration kResumeLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);

PrepareRefusal refuse(const char* reason, absl::Status status) {
    return {reason, std::move(status)};
}

absl::Status check_boot_files(const v1::PrepareRequest& request) {
    for (const v1::BootFile& file : request.boot_files()) {
        const absl::StatusOr<Hash128> hash = hash_file(file.path());
        if (!hash.ok()) return hash.status();
        if (to_hex(*hash) != file.hash())
            return absl::FailedPreconditionError(fmt::format(
                "{} differs from the source's file of that name; copy it from there", file.path()));
    }
    return absl::OkStatus();
}

absl::Status check_room(const v1::PrepareRequest& request) {
    GODWIT_ASSIGN_OR_RETURN(const HostMemory memory, read_host_memory());
    if (memory.available >= kQemuBytes && request.touched_bytes() <= memory.available - kQemuBytes)
        return absl::OkStatus();
    return absl::ResourceExhaustedError(
        fmt::format("No room: the VM has touched {}, and {} are available here",
                    format_bytes(request.touched_bytes()), format_bytes(memory.available)));
}

v1::QueryResponse answer(v1::IncomingState state, const std::string& detail) {
    v1::QueryResponse response;
    response.set_state(state);
    response.set_detail(detail);
    return response;
}

}  // namespace

IncomingRegistry::~IncomingRegistry() {
    std::map<std::string, std::shared_ptr<IncomingMigration>> incoming;
    {
        const std::lock_guard lock(mutex_);
        incoming.swap(incoming_);
    }
}

PrepareRefusal IncomingRegistry::check(const v1::PrepareRequest& request) {
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
        if (incoming_.size() >= kMaxWaiting)
            return refuse("BUSY", absl::ResourceExhaustedError("Too many incoming migrations"));
    }
    if (const absl::Status status = hypervisor_.check(request.spec()); !status.ok())
        return refuse(absl::IsResourceExhausted(status) ? "NO_ROOM" : "SPEC_NOT_RUNNABLE", status);
    if (const absl::Status status = check_boot_files(request); !status.ok())
        return refuse("BOOT_FILE_DIFFERS", status);
    if (const absl::Status status = check_room(request); !status.ok())
        return refuse("NO_ROOM", status);
    return {};
}

PrepareRefusal IncomingRegistry::prepare(const v1::PrepareRequest& request,
                                         v1::PrepareResponse& response) {
    sweep();
    const MonotonicTime begin = Clock::system().now();
    const std::string& name = request.spec().name();
    if (PrepareRefusal refusal = check(request); !refusal.status.ok()) return refusal;
    if (const absl::Status status = vms_.reserve(name, request.migration_id()); !status.ok())
        return refuse("NAME_TAKEN", status);

    absl::StatusOr<std::unique_ptr<IncomingMigration>> incoming = IncomingMigration::start(
        request, {.hypervisor = &hypervisor_,
                  .state_dir = options_.state_dir,
                  .listen_host = options_.listen_host,
                  .on_refused = [this](const std::string& vm) { vms_.settle(vm, nullptr); },
                  .on_resumed = [this](const std::string& vm) { vms_.release(vm); },
                  .at_step = options_.at_step});
    if (!incoming.ok()) {
        vms_.settle(name, nullptr);
        return refuse("START_FAILED", incoming.status());
    }
    vms_.settle(name, (*incoming)->vm());
    const auto blocks = (*incoming)->vm()->ram_blocks();
    bool same = blocks.size() == static_cast<size_t>(request.blocks_size());
    for (int i = 0; same && i < request.blocks_size(); ++i)
        same = blocks[i].name == request.blocks(i).name() &&
               blocks[i].size == request.blocks(i).size_bytes();
    if (!same) {
        (*incoming)->abort("RAM layout differs").IgnoreError();
        return refuse("RAM_LAYOUT", absl::FailedPreconditionError(
                                        "The RAM blocks differ from the source's: the two agents "
                                        "lay out this VM's memory differently"));
    }
    response.set_session_token(std::string(
        reinterpret_cast<const char*>((*incoming)->token().data()), (*incoming)->token().size()));
    response.set_data_port((*incoming)->data_port());
    response.set_prepare_ms(to_ms(Clock::system().now() - begin));
    response.set_hypervisor_version(options_.hypervisor_version);
    const std::lock_guard lock(mutex_);
    incoming_[request.migration_id()] = std::move(*incoming);
    return {};
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

void IncomingRegistry::recover() {
    for (v1::JournalRecord& record : Journal::load_all(options_.state_dir))
        if (record.role() == v1::ROLE_DESTINATION) recover_one(std::move(record));
}

void IncomingRegistry::recover_one(v1::JournalRecord record) {
    const std::string id = record.migration_id();
    const auto settle = [&](v1::JournalPhase phase, const std::string& detail) {
        record.set_phase(phase);
        record.set_detail(detail);
        if (const auto journal = Journal::open(options_.state_dir, id); journal.ok())
            journal->write(record, Journal::Durability::kDisk).IgnoreError();
        spdlog::warn("migration {}: {}", id, detail);
    };
    if (record.phase() == v1::JOURNAL_PHASE_LIVE) {
        // COMMIT never came: the stale copy is never started.
        if (const auto vm = vms_.find(record.vm()); vm.ok()) {
            if (const absl::Status killed = (*vm)->kill(kKillLimit); !killed.ok()) {
                spdlog::error("migration {}: {}", id, std::string(killed.message()));
                return;
            }
            vms_.remove(record.vm());
        } else if (vms_.is_left_alone(record.vm())) {
            // No answer: REFUSED lets the source run the guest, and this QEMU may live.
            spdlog::error("migration {}: the QEMU of VM {} could not be adopted, nor ended", id,
                          record.vm());
            return;
        }
        settle(v1::JOURNAL_PHASE_REFUSED, "the destination's agent ended before COMMIT");
    } else if (record.phase() == v1::JOURNAL_PHASE_CONT) {
        // COMMIT came: the guest is ours, and `cont` may not have been sent yet.
        std::string detail = "resumed by a restarted agent";
        if (const auto vm = vms_.find(record.vm()); !vm.ok())
            detail = "its QEMU ended after COMMIT";
        else if (!record.was_running())
            detail = "paused, as it was at the source";
        else if (const absl::Status resumed = (*vm)->resume(kResumeLimit); !resumed.ok())
            detail = fmt::format("the guest is here, but not running: {}",
                                 std::string(resumed.message()));
        settle(v1::JOURNAL_PHASE_RESUMED, detail);
    }
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer(record.phase() == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                                                       : v1::INCOMING_STATE_RESUMED,
                           record.detail()));
}

}  // namespace godwit
