// QmpVm's part in a migration: device state out, device state in, and the way back.
//
//   source:       prepare ─► begin: setup ─► active ─► STOP ─► pre-switchover ─► finish: device ─►
//   completed
//                              │                │                   │                    │ │
//   roll_back():               └── migrate_cancel: cancelled, and QEMU resumes by itself ┘ cont
//   destination:  prepare ─► begin: active ─► completed (paused) ─► resume: cont
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <utility>

#include "engine/guest/qemu/qmp_vm.h"
#include "engine/guest/qemu/ram_mount.h"

namespace godwit {
namespace {

constexpr Duration kMigrationCommandLimit = std::chrono::seconds(10);
// Between two looks at a state whose change brings no event.
constexpr Duration kLookAgain = std::chrono::milliseconds(10);
// What an ended QEMU wrote last is read at once, if a thread of ours gets to run.
constexpr Duration kLastWords = std::chrono::seconds(5);
// `cont` that is answered well and leaves the guest paused is not repeated for ever.
constexpr int kMaxContinues = 3;

constexpr const char* kSaveFd = "godwit-save";
constexpr const char* kLoadFd = "godwit-load";

constexpr const char* kMigrateCommand = "migrate";
Json migrate_arguments() { return {{"uri", fmt::format("fd:{}", kSaveFd)}}; }
constexpr const char* kContinueCommand = "migrate-continue";
Json continue_arguments() { return {{"state", "pre-switchover"}}; }

bool is_under_way(std::string_view status) {
    static constexpr std::array<std::string_view, 7> kStates{
        "setup",      "active",      "pre-switchover", "device",
        "cancelling", "wait-unplug", "postcopy-active"};
    return std::find(kStates.begin(), kStates.end(), status) != kStates.end();
}

Duration left_until(MonotonicTime deadline) {
    return std::max<Duration>(deadline - Clock::system().now(), Duration::zero());
}

}  // namespace

absl::Status QmpVm::set_capabilities(std::initializer_list<const char*> names) {
    Json capabilities = Json::array();
    for (const char* name : names) capabilities.push_back({{"capability", name}, {"state", true}});
    return command("migrate-set-capabilities", {{"capabilities", std::move(capabilities)}},
                   kMigrationCommandLimit)
        .status();
}

absl::StatusOr<std::string> QmpVm::migration_status_within(Duration limit) {
    GODWIT_ASSIGN_OR_RETURN(Json reply, command("query-migrate", {}, limit));
    const std::string status = json_text(reply, "status");
    return status.empty() ? "none" : status;
}

absl::StatusOr<std::string> QmpVm::migration_status() {
    return migration_status_within(kMigrationCommandLimit);
}

absl::Status QmpVm::prepare_device_save(UniqueFd out) {
    struct stat info {};
    if (::fstat(out.get(), &info) != 0 || !S_ISSOCK(info.st_mode))
        return absl::InvalidArgumentError(
            "device state must go out by a socket: QEMU cannot be freed from a write to a pipe");
    GODWIT_RETURN_IF_ERROR(set_capabilities(
        {"events", "x-ignore-shared", "pause-before-switchover", "late-block-activate"}));
    // Device state is small: QEMU's own pacing and its own downtime estimate must not delay it.
    GODWIT_RETURN_IF_ERROR(command("migrate-set-parameters",
                                   {{"max-bandwidth", int64_t{1} << 40},
                                    {"downtime-limit", 2'000'000},
                                    {"announce-rounds", 0}},
                                   kMigrationCommandLimit)
                               .status());
    GODWIT_RETURN_IF_ERROR(
        command("getfd", {{"fdname", kSaveFd}}, kMigrationCommandLimit, out.get()).status());
    {
        const std::lock_guard lock(event_mutex_);
        save_socket_ = std::move(out);
    }
    foresee(kMigrateCommand, migrate_arguments());
    return absl::OkStatus();
}

absl::Status QmpVm::begin_device_save() {
    gave_up_disks_ = false;
    GODWIT_RETURN_IF_ERROR(
        command(kMigrateCommand, migrate_arguments(), kMigrationCommandLimit).status());
    foresee(kContinueCommand, continue_arguments());
    return absl::OkStatus();
}

absl::Status QmpVm::finish_device_save() {
    return command(kContinueCommand, continue_arguments(), kMigrationCommandLimit).status();
}

void QmpVm::break_save_stream() {
    const std::lock_guard lock(event_mutex_);
    if (save_socket_.valid()) ::shutdown(save_socket_.get(), SHUT_RDWR);
    save_socket_.reset();
}

absl::Status QmpVm::roll_back(bool run, Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    break_save_stream();
    bool cancelled = false;
    while (true) {
        const uint64_t seen_count = event_count();
        GODWIT_ASSIGN_OR_RETURN(std::string status, migration_status_within(left_until(deadline)));
        GODWIT_ASSIGN_OR_RETURN(std::string state, run_state_text(left_until(deadline)));
        // In both states QEMU is about to change by itself.
        if (is_under_way(status) || state == "finish-migrate") {
            if (status == "device" || status == "completed") gave_up_disks_ = true;
            if (is_under_way(status) && !std::exchange(cancelled, true))
                GODWIT_RETURN_IF_ERROR(
                    command("migrate_cancel", {}, left_until(deadline)).status());
            if (Clock::system().now() >= deadline)
                return absl::DeadlineExceededError(
                    fmt::format("VM {} is not rolled back yet: migration {}, run state {}",
                                parts_.name, status, state));
            wait_event(seen_count, std::min(kLookAgain, left_until(deadline)));
            continue;
        }
        if (!run)
            return state == "running" ? command("stop", {}, left_until(deadline)).status()
                                      : absl::OkStatus();
        // A save that had begun gave up the disks: only `cont` is sure to take them back. An
        // earlier try may have seen that.
        if (state == "running" && !gave_up_disks_) return absl::OkStatus();
        const absl::Status runs = cont_and_confirm(deadline);
        if (runs.ok()) gave_up_disks_ = false;
        return runs;
    }
}

absl::Status QmpVm::cont_and_confirm(MonotonicTime deadline) {
    for (int attempt = 0; attempt < kMaxContinues; ++attempt) {
        const uint64_t seen_count = event_count();
        const uint64_t resumes_before = resume_count();
        GODWIT_RETURN_IF_ERROR(command("cont", {}, left_until(deadline)).status());
        // The event comes before the answer, on the same connection.
        if (runs_since(resumes_before)) return absl::OkStatus();
        while (true) {
            GODWIT_ASSIGN_OR_RETURN(std::string state, run_state_text(left_until(deadline)));
            if (state == "running") return absl::OkStatus();
            if (Clock::system().now() >= deadline)
                return absl::DeadlineExceededError(
                    fmt::format("cont: VM {} is \"{}\" and does not run yet", parts_.name, state));
            if (state != "inmigrate" && state != "finish-migrate") break;
            wait_event(seen_count, std::min(kLookAgain, left_until(deadline)));
        }
    }
    GODWIT_ASSIGN_OR_RETURN(std::string state, run_state_text(left_until(deadline)));
    return absl::FailedPreconditionError(
        fmt::format("cont: QEMU took it and VM {} is \"{}\"", parts_.name, state));
}

absl::Status QmpVm::prepare_device_load() {
    GODWIT_RETURN_IF_ERROR(set_capabilities({"events", "x-ignore-shared", "late-block-activate"}));
    GODWIT_RETURN_IF_ERROR(
        command("migrate-set-parameters", {{"announce-rounds", 0}}, kMigrationCommandLimit)
            .status());
    // Whatever QEMU put into RAM while it started is not the guest's.
    for (const RamBlock& block : parts_.ram_blocks) GODWIT_RETURN_IF_ERROR(punch_all(block));
    return absl::OkStatus();
}

absl::Status QmpVm::begin_device_load(UniqueFd in) {
    {
        const std::lock_guard lock(event_mutex_);
        last_migration_.clear();
    }
    GODWIT_RETURN_IF_ERROR(
        command("getfd", {{"fdname", kLoadFd}}, kMigrationCommandLimit, in.get()).status());
    GODWIT_RETURN_IF_ERROR(command("migrate-incoming", {{"uri", fmt::format("fd:{}", kLoadFd)}},
                                   kMigrationCommandLimit)
                               .status());
    const std::lock_guard lock(session_mutex_);
    load_session_ = session_;
    return absl::OkStatus();
}

void QmpVm::foresee_resume() { foresee("cont", {}); }

absl::Status QmpVm::resume(Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    std::string loaded;
    {
        const std::lock_guard lock(event_mutex_);
        loaded = last_migration_;
    }
    if (loaded != "completed") {
        // While it waits for a load, QEMU would take `cont` as a wish for later, which is worse
        // than a refusal. (Not asked when the load was seen to end: this is within the pause.)
        GODWIT_ASSIGN_OR_RETURN(std::string state, run_state_text(limit));
        if (state == "inmigrate")
            return absl::FailedPreconditionError(
                fmt::format("VM {} has not loaded its device state", parts_.name));
    }
    const absl::Status status = cont_and_confirm(deadline);
    if (!absl::IsNotFound(status) || !never_ran_what_it_loaded()) return status;
    return absl::AbortedError(
        fmt::format("{}; the guest has never run in it", std::string(status.message())));
}

// QEMU says RESUME before it lets the first vCPU go, and a unix socket gives what was written to it
// even when the writer is gone. So a session that saw the load begin, and was read to its end
// without a RESUME, is proof. A successor of the agent has no such session.
bool QmpVm::never_ran_what_it_loaded() {
    std::shared_ptr<QmpSession> client;
    {
        const std::lock_guard lock(session_mutex_);
        client = load_session_;
    }
    return client && client->wait_told_all(kLastWords) && resume_count() == 0;
}

absl::Status QmpVm::announce() {
    // QEMU's defaults, said aloud: rounds after 50, 150, 250, 350 and 450 ms.
    return command("announce-self", {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}},
                   kMigrationCommandLimit)
        .status();
}

}  // namespace godwit
