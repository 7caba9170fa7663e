#include "engine/guest/qemu/qmp_vm.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <utility>

#include "engine/guest/qemu/qmp_replies.h"

namespace godwit {
namespace {

// For commands that QEMU answers at once unless its main loop hangs.
constexpr Duration kCommandLimit = std::chrono::seconds(10);
constexpr Duration kRegainPause = std::chrono::milliseconds(500);
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

QmpVm::QmpVm(Parts parts, Wakeup wakeup) : parts_(std::move(parts)), wakeup_(std::move(wakeup)) {
    watcher_ = std::jthread([this](const std::stop_token& stop) { watch_process(stop); });
}

QmpVm::~QmpVm() {
    watcher_.request_stop();
    wakeup_.notify();
    watcher_.join();
    load_session_.reset();
    session_.reset();  // joins the reader, which calls into us
}

// --- the connection -------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<QmpSession>> QmpVm::session(MonotonicTime deadline) {
    std::unique_lock lock(session_mutex_);
    if (!connected_.wait_until(lock, deadline, [&] { return !connecting_; }))
        return absl::DeadlineExceededError("QEMU's QMP does not answer");
    if (session_ && session_->state().ok()) return session_;
    std::shared_ptr<QmpSession> lost = std::move(session_);
    connecting_ = true;
    lock.unlock();
    // Of two sessions both would tell every event. One that has told all is silent, and a witness.
    if (lost && !lost->wait_told_all(kExitLag)) {
        lock.lock();
        const std::shared_ptr<QmpSession> no_witness = std::move(load_session_);
        lock.unlock();
    }
    lost.reset();
    absl::StatusOr<std::unique_ptr<QmpSession>> client = parts_.open_session(
        deadline, [this](const QmpEvent& event, MonotonicTime at) { on_qmp_event(event, at); });
    lock.lock();
    connecting_ = false;
    connected_.notify_all();
    if (!client.ok()) return client.status();
    session_ = *std::move(client);
    const std::shared_ptr<QmpSession> opened = session_;
    lost = std::move(load_session_);
    lock.unlock();  // `lost` may be the last to hold it
    return opened;
}

absl::Status QmpVm::connect(Duration limit) {
    absl::Status status = session(Clock::system().now() + limit).status();
    return status.ok() ? status : explain(std::move(status));
}

absl::StatusOr<Json> QmpVm::command(std::string_view name, Json arguments, Duration limit,
                                    int fd_to_pass) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    absl::StatusOr<std::shared_ptr<QmpSession>> client = session(deadline);
    if (!client.ok()) return explain(annotate(client.status(), name));
    absl::StatusOr<Json> reply = (*client)->execute(name, std::move(arguments),
                                                    deadline - Clock::system().now(), fd_to_pass);
    if (!reply.ok()) return explain(reply.status());
    return reply;
}

void QmpVm::foresee(std::string_view name, const Json& arguments) {
    std::shared_ptr<QmpSession> client;
    {
        const std::lock_guard lock(session_mutex_);
        client = session_;
    }
    if (client) client->foresee(name, arguments);
}

// A lost connection is told from a lost QEMU.
absl::Status QmpVm::explain(absl::Status status) {
    if (absl::IsFailedPrecondition(status) || absl::IsUnimplemented(status) ||
        absl::IsResourceExhausted(status))
        return status;  // QEMU answered, or was not asked
    const bool lost = !absl::IsDeadlineExceeded(status);
    if (!wait_readable(parts_.pidfd.get(), -1,
                       Clock::system().now() + (lost ? kExitLag : Duration::zero()))
             .ok())
        return status;
    return absl::NotFoundError(
        fmt::format("QEMU of VM {} (pid {}) has ended: {}", parts_.name, pid(), end_reason()));
}

// --- events and the end of the process ------------------------------------------------------

void QmpVm::on_qmp_event(const QmpEvent& event, MonotonicTime at) {
    if (event.name == QmpSession::kLost) {
        lost_ = true;
        return wakeup_.notify();
    }
    const GuestEvent translated = to_guest_event(event, at);
    {
        const std::lock_guard lock(event_mutex_);
        ++event_count_;
        if (translated.kind == GuestEventKind::kResume) ++resume_count_;
        if (translated.kind == GuestEventKind::kResume || translated.kind == GuestEventKind::kStop)
            runs_ = translated.kind == GuestEventKind::kResume;
        if (translated.kind == GuestEventKind::kMigration) {
            last_migration_ = translated.detail;
            if (last_migration_ == "completed" || last_migration_ == "failed") save_socket_.reset();
        }
    }
    event_arrived_.notify_all();
    deliver(translated);
}

void QmpVm::deliver(const GuestEvent& event) {
    const std::lock_guard lock(listener_mutex_);
    if (listener_) listener_(event);
}

void QmpVm::set_listener(std::function<void(const GuestEvent&)> listener) {
    const std::lock_guard lock(listener_mutex_);
    listener_ = std::move(listener);
    if (listener_) wakeup_.notify();  // it is told at once of a QEMU that has ended already
}

uint64_t QmpVm::event_count() {
    const std::lock_guard lock(event_mutex_);
    return event_count_;
}

uint64_t QmpVm::resume_count() {
    const std::lock_guard lock(event_mutex_);
    return resume_count_;
}

bool QmpVm::runs_since(uint64_t resumes_before) {
    const std::lock_guard lock(event_mutex_);
    return runs_ && resume_count_ != resumes_before;
}

void QmpVm::wait_event(uint64_t seen_count, Duration limit) {
    std::unique_lock lock(event_mutex_);
    event_arrived_.wait_until(lock, Clock::system().now() + limit,
                              [&] { return event_count_ != seen_count; });
}

void QmpVm::watch_process(const std::stop_token& stop) {
    set_thread_name("qemu-watch");
    const auto look_again = [this] {
        return lost_ ? std::optional(Clock::system().now() + kRegainPause) : std::nullopt;
    };
    while (!wait_readable(parts_.pidfd.get(), wakeup_.fd(), look_again()).ok()) {
        if (stop.stop_requested()) return;
        wakeup_.drain();  // a new listener, and no news for it
        if (lost_ && has_listener()) regain_session();
    }
    const GuestEvent gone{GuestEventKind::kGone, end_reason(), Clock::system().now()};
    std::shared_ptr<QmpSession> client;
    {
        const std::lock_guard lock(session_mutex_);
        client = session_;
    }
    // What QEMU said last (SHUTDOWN, say) comes before the news of its end, where somebody listens.
    if (client && has_listener()) (void)client->wait_closed(kExitLag);
    client.reset();
    deliver(gone);
    while (wait_readable(wakeup_.fd(), -1, std::nullopt).ok() && !stop.stop_requested()) {
        wakeup_.drain();
        deliver(gone);
    }
}

// Whoever listens may wait for an event that came in between.
void QmpVm::regain_session() {
    lost_ = false;
    const absl::StatusOr<std::string> status = migration_status_within(kCommandLimit);
    if (!status.ok()) {
        lost_ = true;
        return;
    }
    on_qmp_event({.name = "MIGRATION", .data = {{"status", *status}}}, Clock::system().now());
}

bool QmpVm::has_listener() {
    const std::lock_guard lock(listener_mutex_);
    return listener_ != nullptr;
}

std::string QmpVm::end_reason() {
    const std::lock_guard lock(end_mutex_);
    if (end_reason_.empty()) end_reason_ = reap(parts_.pidfd.get()).value_or("not our child");
    return end_reason_;
}

bool QmpVm::ended() const { return has_ended(parts_.pidfd.get()); }

// --- questions ------------------------------------------------------------------------------

absl::StatusOr<std::vector<pid_t>> QmpVm::vcpu_threads() {
    GODWIT_ASSIGN_OR_RETURN(Json cpus, command("query-cpus-fast", {}, kCommandLimit));
    return vcpu_threads_of(cpus);
}

absl::StatusOr<std::string> QmpVm::run_state_text(Duration limit) {
    GODWIT_ASSIGN_OR_RETURN(Json reply, command("query-status", {}, limit));
    return json_text(reply, "status");
}

absl::StatusOr<RunState> QmpVm::run_state() {
    GODWIT_ASSIGN_OR_RETURN(std::string text, run_state_text(kCommandLimit));
    return to_run_state(text);
}

absl::StatusOr<std::vector<std::string>> QmpVm::migration_blockers() {
    GODWIT_ASSIGN_OR_RETURN(Json reply, command("query-migrate", {}, kCommandLimit));
    return blocked_reasons_of(reply);
}

std::string QmpVm::incarnation() const {
    return fmt::format("{}/{}", parts_.process.pid, parts_.process.start_time);
}

absl::StatusOr<std::vector<std::string>> QmpVm::plugged_memory() {
    GODWIT_ASSIGN_OR_RETURN(const Json reply, command("query-memory-devices", {}, kCommandLimit));
    return memory_devices_of(reply);
}

absl::Status QmpVm::drain_block_io(Duration limit) {
    // An empty transaction still drains every block node before it begins.
    return command("transaction", {{"actions", Json::array()}}, limit).status();
}

// --- the end --------------------------------------------------------------------------------

absl::Status QmpVm::await_end(MonotonicTime deadline) {
    GODWIT_RETURN_IF_ERROR(wait_readable(parts_.pidfd.get(), -1, deadline));
    end_reason();
    return absl::OkStatus();
}

absl::Status QmpVm::kill(Duration limit) {
    if (!ended()) {
        const absl::Status sent = send_signal(parts_.pidfd.get(), SIGKILL);
        if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
    }
    return annotate(
        await_end(Clock::system().now() + limit),
        fmt::format("QEMU of VM {} (pid {}) is killed and has not ended", parts_.name, pid()));
}

}  // namespace godwit
