#include "engine/guest/qemu/qemu_vm.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <utility>

#include "engine/guest/qemu/process.h"
#include "engine/guest/qemu/ram_mount.h"

namespace godwit {
namespace {

// For commands that QEMU answers at once unless its main loop hangs.
constexpr Duration kCommandLimit = std::chrono::seconds(10);
// A connection breaks a little before the process that held it has ended.
constexpr Duration kExitLag = std::chrono::milliseconds(500);

RunState to_run_state(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, RunState>, 8> kStates{{
        {"running", RunState::kRunning},
        {"paused", RunState::kPaused},
        {"prelaunch", RunState::kPaused},
        {"inmigrate", RunState::kInMigrate},
        {"finish-migrate", RunState::kFinishMigrate},
        {"save-vm", RunState::kFinishMigrate},
        {"postmigrate", RunState::kPostMigrate},
        {"shutdown", RunState::kShutdown},
    }};
    for (const auto& [name, state] : kStates)
        if (name == text) return state;
    return RunState::kOther;
}

GuestEvent to_guest_event(const QmpEvent& event, MonotonicTime at) {
    if (event.name == "STOP") return {.kind = GuestEventKind::kStop, .at = at};
    if (event.name == "RESUME") return {.kind = GuestEventKind::kResume, .at = at};
    if (event.name == "MIGRATION")
        return {GuestEventKind::kMigration, json_text(event.data, "status"), at};
    if (event.name == "SHUTDOWN")
        return {GuestEventKind::kShutdown, json_text(event.data, "reason"), at};
    return {GuestEventKind::kOther, event.name, at};
}

}  // namespace

absl::StatusOr<std::shared_ptr<QemuVm>> QemuVm::create(VmRecord record, VmPaths paths,
                                                       UniqueFd pidfd,
                                                       std::function<void()> on_removed) {
    std::vector<RamBlock> blocks;
    const Backing backing = backing_of(record.spec.memory_backing());
    for (const std::string& path : record.ram_files) {
        GODWIT_ASSIGN_OR_RETURN(RamBlock block,
                                open_ram_block(fmt::format("ram{}", blocks.size()), path, backing));
        blocks.push_back(std::move(block));
    }
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    return std::shared_ptr<QemuVm>(new QemuVm(std::move(record), std::move(paths), std::move(pidfd),
                                              std::move(wakeup), std::move(blocks),
                                              std::move(on_removed)));
}

QemuVm::QemuVm(VmRecord record, VmPaths paths, UniqueFd pidfd, Wakeup wakeup,
               std::vector<RamBlock> ram_blocks, std::function<void()> on_removed)
    : record_(std::move(record)),
      paths_(std::move(paths)),
      pidfd_(std::move(pidfd)),
      wakeup_(std::move(wakeup)),
      ram_blocks_(std::move(ram_blocks)),
      on_removed_(std::move(on_removed)) {
    watcher_ = std::jthread([this](const std::stop_token& stop) { watch_process(stop); });
}

QemuVm::~QemuVm() {
    watcher_.request_stop();
    wakeup_.notify();
    watcher_.join();
    session_.reset();  // joins the reader, which calls into us
}

// --- the connection -------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<QmpClient>> QemuVm::session(MonotonicTime deadline) {
    std::unique_lock lock(session_mutex_);
    if (!connected_.wait_until(lock, deadline, [&] { return !connecting_; }))
        return absl::DeadlineExceededError("QEMU's QMP does not answer");
    if (session_ && session_->state().ok()) return session_;
    std::shared_ptr<QmpClient> lost = std::move(session_);
    connecting_ = true;
    lock.unlock();
    lost.reset();
    absl::StatusOr<std::unique_ptr<QmpClient>> client = QmpClient::connect(
        paths_.qmp_socket(), deadline,
        [this](const QmpEvent& event, MonotonicTime at) { on_qmp_event(event, at); });
    lock.lock();
    connecting_ = false;
    connected_.notify_all();
    if (!client.ok()) return client.status();
    session_ = *std::move(client);
    return session_;
}

absl::Status QemuVm::connect(Duration limit) {
    absl::Status status = session(Clock::system().now() + limit).status();
    return status.ok() ? status : explain(std::move(status));
}

absl::StatusOr<Json> QemuVm::command(std::string_view name, Json arguments, Duration limit,
                                     int fd_to_pass) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    absl::StatusOr<std::shared_ptr<QmpClient>> client = session(deadline);
    if (!client.ok()) return explain(annotate(client.status(), name));
    absl::StatusOr<Json> reply = (*client)->execute(name, std::move(arguments),
                                                    deadline - Clock::system().now(), fd_to_pass);
    if (!reply.ok()) return explain(reply.status());
    return reply;
}

// A lost connection is told from a lost QEMU.
absl::Status QemuVm::explain(absl::Status status) {
    if (absl::IsFailedPrecondition(status) || absl::IsUnimplemented(status) ||
        absl::IsResourceExhausted(status))
        return status;  // QEMU answered, or was not asked
    const bool lost = !absl::IsDeadlineExceeded(status);
    if (!wait_readable(pidfd_.get(), -1,
                       Clock::system().now() + (lost ? kExitLag : Duration::zero()))
             .ok())
        return status;
    return absl::NotFoundError(fmt::format("QEMU of VM {} (pid {}) has ended: {}",
                                           record_.spec.name(), pid(), end_reason()));
}

// --- events and the end of the process ------------------------------------------------------

void QemuVm::on_qmp_event(const QmpEvent& event, MonotonicTime at) {
    const GuestEvent translated = to_guest_event(event, at);
    {
        const std::lock_guard lock(event_mutex_);
        ++event_count_;
        if (translated.kind == GuestEventKind::kMigration) {
            last_migration_ = translated.detail;
            if (last_migration_ == "completed" || last_migration_ == "failed") save_socket_.reset();
        }
    }
    event_arrived_.notify_all();
    deliver(translated);
}

void QemuVm::deliver(const GuestEvent& event) {
    const std::lock_guard lock(listener_mutex_);
    if (listener_) listener_(event);
}

void QemuVm::set_listener(std::function<void(const GuestEvent&)> listener) {
    const std::lock_guard lock(listener_mutex_);
    listener_ = std::move(listener);
    if (listener_) wakeup_.notify();  // it is told at once of a QEMU that has ended already
}

uint64_t QemuVm::event_count() {
    const std::lock_guard lock(event_mutex_);
    return event_count_;
}

void QemuVm::wait_event(uint64_t seen_count, Duration limit) {
    std::unique_lock lock(event_mutex_);
    event_arrived_.wait_until(lock, Clock::system().now() + limit,
                              [&] { return event_count_ != seen_count; });
}

void QemuVm::watch_process(const std::stop_token& stop) {
    set_thread_name("qemu-watch");
    while (!wait_readable(pidfd_.get(), wakeup_.fd(), std::nullopt).ok()) {
        if (stop.stop_requested()) return;
        wakeup_.drain();  // a new listener, and no news for it
    }
    const GuestEvent gone{GuestEventKind::kGone, end_reason(), Clock::system().now()};
    std::shared_ptr<QmpClient> client;
    {
        const std::lock_guard lock(session_mutex_);
        client = session_;
    }
    // What QEMU said last (SHUTDOWN, say) comes before the news of its end.
    if (client) client->wait_closed(kExitLag);
    client.reset();
    deliver(gone);
    while (wait_readable(wakeup_.fd(), -1, std::nullopt).ok() && !stop.stop_requested()) {
        wakeup_.drain();
        deliver(gone);
    }
}

std::string QemuVm::end_reason() {
    const std::lock_guard lock(end_mutex_);
    if (end_reason_.empty()) end_reason_ = reap(pidfd_.get()).value_or("not our child");
    return end_reason_;
}

bool QemuVm::ended() const { return has_ended(pidfd_.get()); }

// --- questions ------------------------------------------------------------------------------

absl::StatusOr<std::vector<pid_t>> QemuVm::vcpu_threads() {
    GODWIT_ASSIGN_OR_RETURN(Json cpus, command("query-cpus-fast", {}, kCommandLimit));
    std::vector<pid_t> threads;
    for (const Json& cpu : cpus)
        threads.push_back(static_cast<pid_t>(json_number(cpu, "thread-id")));
    return threads;
}

absl::StatusOr<std::string> QemuVm::run_state_text(Duration limit) {
    GODWIT_ASSIGN_OR_RETURN(Json reply, command("query-status", {}, limit));
    return json_text(reply, "status");
}

absl::StatusOr<RunState> QemuVm::run_state() {
    GODWIT_ASSIGN_OR_RETURN(std::string text, run_state_text(kCommandLimit));
    return to_run_state(text);
}

absl::StatusOr<std::vector<std::string>> QemuVm::migration_blockers() {
    GODWIT_ASSIGN_OR_RETURN(Json reply, command("query-migrate", {}, kCommandLimit));
    std::vector<std::string> reasons;
    const auto blocked = reply.is_object() ? reply.find("blocked-reasons") : reply.end();
    if (blocked == reply.end()) return reasons;
    for (const Json& reason : *blocked)
        if (const auto* text = reason.get_ptr<const std::string*>()) reasons.push_back(*text);
    return reasons;
}

std::vector<std::string> QemuVm::discarding_devices() const {
    std::vector<std::string> devices;
    if (record_.spec.balloon()) devices.emplace_back("balloon0 (virtio-balloon-pci)");
    return devices;
}

std::string QemuVm::incarnation() const {
    return fmt::format("{}/{}", record_.process.pid, record_.process.start_time);
}

absl::StatusOr<std::vector<std::string>> QemuVm::plugged_memory() {
    GODWIT_ASSIGN_OR_RETURN(const Json reply, command("query-memory-devices", {}, kCommandLimit));
    std::vector<std::string> names;
    if (!reply.is_array()) return names;
    for (const Json& device : reply) {
        const Json data = device.value("data", Json::object());
        // A device that was added without an id is known by its memory.
        names.push_back(data.value("id", data.value("memdev", "a memory device")));
    }
    return names;
}

absl::Status QemuVm::drain_block_io(Duration limit) {
    // An empty transaction still drains every block node before it begins.
    return command("transaction", {{"actions", Json::array()}}, limit).status();
}

// --- the end --------------------------------------------------------------------------------

absl::Status QemuVm::kill(Duration limit) {
    if (!ended()) {
        const absl::Status sent = send_signal(pidfd_.get(), SIGKILL);
        if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
    }
    const absl::Status gone = wait_readable(pidfd_.get(), -1, Clock::system().now() + limit);
    if (!gone.ok())
        return annotate(gone, fmt::format("QEMU of VM {} (pid {}) is killed and has not ended",
                                          record_.spec.name(), pid()));
    end_reason();
    return absl::OkStatus();
}

absl::Status QemuVm::stop(bool force, Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    if (force) {
        GODWIT_RETURN_IF_ERROR(kill(limit));
        return remove_files();
    }
    if (!ended()) {
        const absl::Status asked = command("system_powerdown", {}, limit).status();
        if (!asked.ok() && !absl::IsNotFound(asked)) return asked;
    }
    if (!wait_readable(pidfd_.get(), -1, deadline).ok())
        return absl::DeadlineExceededError(fmt::format(
            "VM {} did not power off within {:.1f} s; the guest may not know how, or is "
            "paused: use --force",
            record_.spec.name(), std::chrono::duration<double>(limit).count()));
    end_reason();
    return remove_files();
}

absl::Status QemuVm::remove_files() {
    if (!ended())
        return absl::FailedPreconditionError(
            fmt::format("VM {} still runs (pid {})", record_.spec.name(), pid()));
    end_reason();
    std::function<void()> on_removed;
    {
        // A later VM may have the same name, hence the same directory: only once.
        const std::lock_guard lock(end_mutex_);
        if (removed_) return absl::OkStatus();
        GODWIT_RETURN_IF_ERROR(remove_vm_files(paths_, record_.ram_files));
        removed_ = true;
        on_removed = std::move(on_removed_);
    }
    if (on_removed) on_removed();
    return absl::OkStatus();
}

}  // namespace godwit
