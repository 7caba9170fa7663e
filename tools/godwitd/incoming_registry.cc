#include "tools/godwitd/incoming_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>

#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/handover/boot_id.h"
#include "engine/postcopy/postcopy_problems.h"
#include "engine/source/settings.h"
#include "tools/godwitd/host_memory.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

// QEMU's own needs beside guest RAM; a headless q35 takes 60–90 MB.
constexpr Bytes kQemuBytes = Bytes{128} << 20;
constexpr Duration kResumeLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);
constexpr Duration kResumeAgain = std::chrono::seconds(1);

// Before something is tried again. False when `stop` was asked for.
bool pause(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wait;
    std::unique_lock lock(mutex);
    wait.wait_for(lock, stop, kResumeAgain, [] { return false; });
    return !stop.stop_requested();
}

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

v1::QueryResponse answer(v1::IncomingState state, const std::string& detail) {
    v1::QueryResponse response;
    response.set_state(state);
    response.set_detail(detail);
    return response;
}

// What a record that is final says: REFUSED or RESUMED.
v1::QueryResponse answer_of(const v1::JournalRecord& record) {
    v1::QueryResponse response =
        answer(record.phase() == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                                           : v1::INCOMING_STATE_RESUMED,
               record.detail());
    response.set_guest_gone(record.guest_gone());
    response.set_arrival_owed(record.arrival_owed());
    response.set_arrival_problem(record.arrival_problem());
    *response.mutable_postcopy() = record.report().postcopy();
    return response;
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
    if (const absl::Status status = check_room(request, options_.overcommit); !status.ok())
        return refuse("NO_ROOM", status);
    return {};
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
    if (PrepareRefusal refusal = check(request); !refusal.status.ok()) return refusal;
    if (const absl::Status status = vms_.reserve(name, request.migration_id()); !status.ok())
        return refuse("NAME_TAKEN", status);

    absl::StatusOr<std::unique_ptr<IncomingMigration>> incoming =
        IncomingMigration::start(request, dependencies_of(id));
    if (!incoming.ok()) {
        vms_.settle(name, id, nullptr);
        const std::lock_guard lock(mutex_);
        keep_answer(id,
                    answer(v1::INCOMING_STATE_REFUSED, std::string(incoming.status().message())));
        return refuse("START_FAILED", incoming.status());
    }
    vms_.settle(name, id, (*incoming)->vm());
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
    if (const absl::Status room = check_mounts_have_room(blocks, request.touched_bytes());
        !room.ok()) {
        (*incoming)->abort(std::string(room.message())).IgnoreError();
        return refuse("NO_ROOM", room);
    }
    response.set_session_token(std::string(
        reinterpret_cast<const char*>((*incoming)->token().data()), (*incoming)->token().size()));
    response.set_data_port((*incoming)->data_port());
    response.set_prepare_ms(to_ms(Clock::system().now() - begin));
    response.set_hypervisor_version(options_.hypervisor_version);
    response.set_postcopy_problem((*incoming)->postcopy_problem());
    const std::lock_guard lock(mutex_);
    incoming_[request.migration_id()] = std::move(*incoming);
    return {};
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

void IncomingRegistry::recover() {
    for (v1::JournalRecord& record : Journal::load_all(options_.state_dir))
        if (record.role() == v1::ROLE_DESTINATION) recover_one(std::move(record));
}

void IncomingRegistry::recover_one(v1::JournalRecord record) {
    switch (record.phase()) {
        case v1::JOURNAL_PHASE_LIVE:
            return recover_live(std::move(record));
        case v1::JOURNAL_PHASE_CONT:
            return record.postcopy() ? recover_drain(std::move(record))
                                     : recover_committed(std::move(record));
        case v1::JOURNAL_PHASE_DRAINING:
            return recover_drain(std::move(record));
        default:
            break;
    }
    if (record.phase() == v1::JOURNAL_PHASE_RESUMED && record.arrival_owed())
        if (const std::shared_ptr<Vm> vm = vm_of(record)) return note_arrival(record, *vm);
    const std::lock_guard lock(mutex_);
    keep_answer(record.migration_id(), answer_of(record));
}

void IncomingRegistry::settle(v1::JournalRecord record, v1::JournalPhase phase,
                              const std::string& detail) {
    const std::string& id = record.migration_id();
    record.set_phase(phase);
    record.set_detail(detail);
    absl::Status written = absl::OkStatus();
    if (const auto journal = Journal::open(options_.state_dir, id); journal.ok())
        written = journal->write(record, Journal::Durability::kDisk);
    else
        written = journal.status();
    if (!written.ok()) spdlog::error("migration {}: {}", id, std::string(written.message()));
    spdlog::warn("migration {}: {}", id, detail);
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer_of(record));
}

// The QEMU that the record is about, and no other of that name.
std::shared_ptr<Vm> IncomingRegistry::vm_of(const v1::JournalRecord& record) {
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.find(record.vm());
    if (!vm.ok()) return nullptr;
    if (!record.vm_incarnation().empty())
        return (*vm)->incarnation() == record.vm_incarnation() ? *vm : nullptr;
    // The agent ended while QEMU started: it is ours only if it has never run.
    const absl::StatusOr<RunState> state = (*vm)->run_state();
    return state.ok() && *state == RunState::kInMigrate ? *vm : nullptr;
}

// COMMIT never came: the stale copy is never started.
void IncomingRegistry::recover_live(v1::JournalRecord record) {
    const std::string id = record.migration_id();
    if (record.boot_id() != boot_id()) {
        // No answer: COMMIT may have come since and been noted in memory only.
        spdlog::error(
            "migration {}: this host was restarted in the middle of it; a source that is in doubt "
            "stays so, for VM {} may have run here",
            id, record.vm());
        return;
    }
    if (const std::shared_ptr<Vm> vm = vm_of(record)) {
        if (const absl::Status killed = vm->kill(kKillLimit); !killed.ok()) {
            spdlog::error("migration {}: {}", id, std::string(killed.message()));
            return;
        }
        vms_.remove(record.vm(), "");
    } else if (vms_.is_left_alone(record.vm())) {
        // No answer: REFUSED lets the source run the guest, and this QEMU may live.
        spdlog::error("migration {}: the QEMU of VM {} could not be adopted, nor ended", id,
                      record.vm());
        return;
    }
    settle(std::move(record), v1::JOURNAL_PHASE_REFUSED,
           "the destination's agent ended before COMMIT");
}

// COMMIT came: the guest is ours, and `cont` may not have been sent yet.
void IncomingRegistry::recover_committed(v1::JournalRecord record) {
    const std::string id = record.migration_id();
    const std::shared_ptr<Vm> vm = vm_of(record);
    if (!vm && vms_.is_left_alone(record.vm())) {
        // No answer, and the record stays: a later agent may be able to adopt it.
        spdlog::error("migration {}: the QEMU of VM {} could not be adopted, nor resumed", id,
                      record.vm());
        return;
    }
    if (!vm) {
        record.set_guest_gone(true);
        return settle(std::move(record), v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
    }
    if (!record.was_running()) {
        settle(record, v1::JOURNAL_PHASE_RESUMED, "paused, as it was at the source");
        return note_arrival(record, *vm);
    }
    if (!vms_.hold(record.vm(), id).ok()) return;  // nobody else is here yet
    {
        const std::lock_guard lock(mutex_);
        keep_answer(id, answer(v1::INCOMING_STATE_COMMITTED, "being resumed by a restarted agent"));
    }
    resumers_.emplace_back([this, record = std::move(record), vm](const std::stop_token& stop) {
        set_thread_name("resume");
        resume_committed(record, *vm, stop);
    });
}

// COMMIT came, and pages are missing: the guest waits where it needs one.
void IncomingRegistry::recover_drain(v1::JournalRecord record) {
    const std::string id = record.migration_id();
    const std::shared_ptr<Vm> vm = vm_of(record);
    if (!vm && vms_.is_left_alone(record.vm())) {
        spdlog::error("migration {}: the QEMU of VM {} could not be adopted, nor its drain", id,
                      record.vm());
        return;
    }
    if (!vm) {
        record.set_guest_gone(true);
        return settle(std::move(record), v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
    }
    if (!vms_.hold(record.vm(), id).ok()) return;  // nobody else is here yet
    const absl::Status taken_up = take_up_drain(record, vm);
    if (taken_up.ok()) return;
    spdlog::error("migration {}: the drain can't go on here yet: {}", id,
                  std::string(taken_up.message()));
    {
        // Not as a drain: there is no port to come to. The source asks again.
        const std::lock_guard lock(mutex_);
        recovering_.insert(id);
        keep_answer(id, answer(v1::INCOMING_STATE_COMMITTED,
                               "a restarted agent can't go on with the drain yet"));
    }
    resumers_.emplace_back([this, record = std::move(record), vm](const std::stop_token& stop) {
        set_thread_name("resume");
        take_up_drain_again(record, vm, stop);
    });
}

absl::Status IncomingRegistry::take_up_drain(const v1::JournalRecord& record,
                                             const std::shared_ptr<Vm>& vm) {
    const std::string& id = record.migration_id();
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<IncomingMigration> incoming,
                            IncomingMigration::recover(record, vm, dependencies_of(id)));
    spdlog::info("migration {}: the drain goes on when the source comes back", id);
    const std::lock_guard lock(mutex_);
    incoming_[id] = std::move(incoming);
    recovering_.erase(id);
    return absl::OkStatus();
}

// What was in the way may pass: a QEMU that is slow to answer, memory, descriptors.
void IncomingRegistry::take_up_drain_again(v1::JournalRecord record, const std::shared_ptr<Vm>& vm,
                                           const std::stop_token& stop) {
    const std::string id = record.migration_id();
    std::string last_said;
    while (pause(stop)) {
        const absl::Status taken_up = take_up_drain(record, vm);
        if (taken_up.ok()) return;
        if (absl::IsNotFound(vm->run_state().status())) break;
        if (taken_up.message() != last_said)
            spdlog::error("migration {}: the drain can't go on here yet: {}", id,
                          std::string(taken_up.message()));
        last_said = std::string(taken_up.message());
    }
    if (stop.stop_requested()) return;  // the next agent goes on
    record.set_guest_gone(true);
    settle(record, v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
    {
        const std::lock_guard lock(mutex_);
        recovering_.erase(id);
    }
    vms_.release(record.vm(), id);
}

bool IncomingRegistry::is_draining(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto entry = incoming_.find(id);
    return entry != incoming_.end() ? entry->second->state().draining() : recovering_.contains(id);
}

// The guest is here, and its earlier agent may have ended before it saw to that.
void IncomingRegistry::note_arrival(v1::JournalRecord record, Vm& vm) {
    const std::string& id = record.migration_id();
    const absl::Status status = vm.arrived(record.vm_definition());
    if (!status.ok())
        spdlog::warn("migration {}: VM {} is here, but not as it was there: {}", id, record.vm(),
                     std::string(status.message()));
    record.set_phase(v1::JOURNAL_PHASE_RESUMED);
    record.set_arrival_owed(false);
    record.set_arrival_problem(std::string(status.message()));
    const absl::StatusOr<Journal> journal = Journal::open(options_.state_dir, id);
    absl::Status written = journal.status();
    if (journal.ok()) written = journal->write(record, Journal::Durability::kPageCache);
    if (!written.ok()) spdlog::error("migration {}: {}", id, std::string(written.message()));
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer_of(record));
}

// Until it runs: a source that heard RESUMED has let go of its own copy.
void IncomingRegistry::resume_committed(v1::JournalRecord record, Vm& vm,
                                        const std::stop_token& stop) {
    const std::string id = record.migration_id();
    std::string detail = "resumed by a restarted agent";
    std::string last_said;
    while (true) {
        const absl::Status resumed = vm.resume(kResumeLimit);
        if (resumed.ok()) break;
        if (absl::IsNotFound(resumed)) {
            record.set_guest_gone(true);
            detail = "its QEMU ended after COMMIT";
            break;
        }
        if (resumed.message() != last_said)
            spdlog::error("migration {}: the guest is here and does not run yet: {}", id,
                          std::string(resumed.message()));
        last_said = std::string(resumed.message());
        if (!pause(stop)) return;  // the next agent goes on
    }
    settle(record, v1::JOURNAL_PHASE_RESUMED, detail);
    if (!record.guest_gone()) note_arrival(record, vm);
    vms_.release(record.vm(), id);
    if (const absl::Status status = vm.announce(); !status.ok())
        spdlog::warn("migration {}: announce: {}", id, std::string(status.message()));
}

}  // namespace godwit
