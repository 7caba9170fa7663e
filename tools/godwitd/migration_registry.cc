#include "tools/godwitd/migration_registry.h"

#include <fmt/format.h>

#include <filesystem>

#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/guest/vm_file/uuid.h"
#include "tools/godwitd/migrate_settings.h"
#include "tools/godwitd/tracker_choice.h"

namespace godwit {
namespace {

std::string make_id(const std::string& vm) {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    const std::string seed = fmt::format("{} {}", vm, now);
    return fmt::format("m-{}", to_hex(hash_bytes(std::as_bytes(std::span(seed)))).substr(0, 12));
}

v1::MigrationEvent last_event(const v1::MigrationReport& report) {
    v1::MigrationEvent event;
    event.set_sequence(1);
    event.set_phase("done");
    *event.mutable_report() = report;
    return event;
}

}  // namespace

MigrationRegistry::MigrationRegistry(VmRegistry& vms, CalibrationFile& calibration, Options options)
    : vms_(vms), calibration_(calibration), options_(std::move(options)) {}

MigrationRegistry::~MigrationRegistry() {
    std::vector<std::shared_ptr<Entry>> entries;
    {
        const std::lock_guard lock(mutex_);
        entries = entries_;
    }
    for (const auto& entry : entries) entry->thread.request_stop();
    for (const auto& entry : entries)
        if (entry->thread.joinable()) entry->thread.join();
    sweep();
}

void MigrationRegistry::set_own_address(const std::string& address) {
    const std::lock_guard lock(mutex_);
    own_address_ = address;
}

std::string MigrationRegistry::own_address() {
    const std::lock_guard lock(mutex_);
    return own_address_;
}

absl::StatusOr<MigrationSettings> MigrationRegistry::settings_of(
    const v1::MigrateRequest& request) const {
    GODWIT_ASSIGN_OR_RETURN(MigrationSettings settings, migrate_settings(request));
    if (settings.id.empty()) settings.id = make_id(request.vm());
    settings.track_unsettled = options_.track_unsettled;
    settings.freeze_limit = options_.freeze_limit;
    return settings;
}

// Takes the id. False: there is a migration of that id and VM; `asked` is what its caller calls it.
absl::StatusOr<bool> MigrationRegistry::reserve(const std::string& id, const std::string& vm,
                                                const std::string& asked) {
    std::unique_lock lock(mutex_);
    started_.wait(lock, [&] { return !starting_.contains(id); });
    size_t running = starting_.size();
    for (const auto& entry : entries_) {
        if (entry->id == id) {
            if (entry->vm == vm || entry->asked == asked) return false;
            return absl::AlreadyExistsError(
                fmt::format("migration {} is one of VM {}", entry->id, entry->vm));
        }
        running += entry->ended ? 0 : 1;
    }
    if (Journal::exists(options_.state_dir, id))
        return absl::AlreadyExistsError(
            fmt::format("Migration {} was here before; take another id", id));
    if (running >= kMaxRunning)
        return absl::ResourceExhaustedError(
            fmt::format("{} migrations are running; that is the limit", running));
    starting_.insert(id);
    return true;
}

absl::StatusOr<std::string> MigrationRegistry::start(const v1::MigrateRequest& request) {
    GODWIT_ASSIGN_OR_RETURN(MigrationSettings settings, settings_of(request));
    const absl::StatusOr<std::string> own = vms_.own_name(request.vm());
    const std::string name = own.value_or(request.vm());
    GODWIT_ASSIGN_OR_RETURN(const bool is_new, reserve(settings.id, name, request.vm()));
    if (!is_new) return settings.id;
    // May take minutes, where the VM has just come and is put in order: nobody else waits for that.
    absl::StatusOr<std::shared_ptr<Vm>> held =
        own.ok() ? vms_.hold(name, settings.id) : absl::StatusOr<std::shared_ptr<Vm>>(own.status());
    const std::lock_guard lock(mutex_);
    starting_.erase(settings.id);
    started_.notify_all();
    if (!held.ok()) return held.status();
    std::shared_ptr<Vm> vm = *std::move(held);
    const Duration fixed = fixed_costs_.expect(settings.limits.downtime_limit);
    std::optional<v1::Prediction> prediction = calibration_.take_expected(name, settings);
    auto entry = std::make_shared<Entry>();
    entry->id = settings.id;
    entry->vm = name;
    entry->uuid = uuid_digits(vm->spec().uuid());
    entry->asked = request.vm();
    entry->migration = std::make_shared<SourceMigration>(
        std::move(settings), SourceDependencies{.vm = std::move(vm),
                                                .state_dir = options_.state_dir,
                                                .guard_program = options_.guard_program,
                                                .own_address = own_address_,
                                                .hypervisor_version = options_.hypervisor_version,
                                                .fixed_cost = fixed,
                                                .prediction = std::move(prediction),
                                                .make_tracker = options_.make_tracker,
                                                .make_throttle = options_.make_throttle,
                                                .ring = options_.ring,
                                                .placement = options_.placement,
                                                .at_step = options_.at_step});
    entry->thread = std::jthread([this, entry](const std::stop_token& stop) {
        set_thread_name("migration");
        run(entry, stop);
    });
    entries_.push_back(entry);
    return entry->id;
}

void MigrationRegistry::run(const std::shared_ptr<Entry>& entry, const std::stop_token& stop) {
    spdlog::info("migration {}: VM {} to {}", entry->id, entry->vm,
                 entry->migration->settings().destination.to_string());
    const v1::MigrationReport report = entry->migration->run(stop);
    // Before it has ended for whoever waits for that.
    calibration_.note(report);
    end(*entry, report);
}

void MigrationRegistry::end(Entry& entry, const v1::MigrationReport& report) {
    spdlog::info("migration {}: {}; the guest is at: {}{}{}", entry.id,
                 v1::Outcome_Name(report.outcome()), v1::GuestAt_Name(report.guest_at()),
                 report.reason().empty() ? "" : "; ", report.reason());
    if (report.guest_at() == v1::GUEST_AT_DESTINATION || report.guest_at() == v1::GUEST_AT_NONE)
        vms_.remove(entry.vm, entry.id);
    else if (report.outcome() != v1::OUTCOME_IN_DOUBT)
        vms_.release(entry.vm, entry.id);
    {
        const std::lock_guard lock(mutex_);
        entry.report = report;
        entry.ended = true;
        fixed_costs_.note(report);
        forget_oldest(entry);
    }
    ended_.notify_all();
    if (entry.migration) entry.migration->log().finish(report);
    if (entry.log) entry.log->finish(report);
}

void MigrationRegistry::forget_oldest(const Entry& but_not) {
    for (auto entry = entries_.begin(); entries_.size() > kMaxKept && entry != entries_.end();) {
        if (!(*entry)->ended || entry->get() == &but_not) {
            ++entry;
            continue;
        }
        std::error_code ignored;
        std::filesystem::remove_all(
            fmt::format("{}/migrations/{}", options_.state_dir, (*entry)->id), ignored);
        retired_.push_back(std::move(*entry));
        entry = entries_.erase(entry);
    }
}

void MigrationRegistry::sweep() {
    std::vector<std::shared_ptr<Entry>> retired;
    std::vector<std::jthread> over;  // joined at the end: a thread keeps its stack until then
    {
        const std::lock_guard lock(mutex_);
        retired.swap(retired_);
        for (const auto& entry : entries_)
            if (entry->ended && entry->thread.joinable()) over.push_back(std::move(entry->thread));
    }
    for (const auto& entry : retired)
        if (entry->thread.joinable()) entry->thread.join();
}

std::shared_ptr<MigrationRegistry::Entry> MigrationRegistry::find(const std::string& name) {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : entries_)
        if (entry->id == name) return entry;
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry)
        if ((*entry)->vm == name) return *entry;
    // Nobody is asked: a VM that has moved may be unknown here.
    const std::string uuid = uuid_digits(name);
    for (auto entry = entries_.rbegin(); !uuid.empty() && entry != entries_.rend(); ++entry)
        if ((*entry)->uuid == uuid) return *entry;
    return nullptr;
}

namespace {

absl::Status unknown(const std::string& name) {
    return absl::NotFoundError(
        fmt::format("This agent knows no migration of that id, VM name or UUID: {}", name));
}

}  // namespace

absl::Status MigrationRegistry::cancel(const std::string& name) {
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    {
        const std::lock_guard lock(mutex_);
        if (entry->ended)
            return absl::FailedPreconditionError(
                fmt::format("Migration {} has ended already", entry->id));
        if (entry->committed) return absl::FailedPreconditionError(kTooLate);
        if (!entry->migration)
            return absl::FailedPreconditionError(
                fmt::format("Migration {} is being undone already", entry->id));
    }
    return entry->migration->cancel();
}

absl::StatusOr<std::shared_ptr<MigrationRegistry::Entry>> MigrationRegistry::find_live(
    const std::string& name) {
    std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    const std::lock_guard lock(mutex_);
    if (entry->ended || !entry->migration)
        return absl::FailedPreconditionError(
            fmt::format("Migration {} has no live rounds any more", entry->id));
    return entry;
}

absl::Status MigrationRegistry::switch_to_postcopy(const std::string& name) {
    GODWIT_ASSIGN_OR_RETURN(const std::shared_ptr<Entry> entry, find_live(name));
    return entry->migration->switch_to_postcopy();
}

absl::Status MigrationRegistry::proceed(const std::string& name) {
    GODWIT_ASSIGN_OR_RETURN(const std::shared_ptr<Entry> entry, find_live(name));
    return entry->migration->proceed();
}

absl::Status MigrationRegistry::resume(const std::string& name) {
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    std::shared_ptr<Drain> drain;
    {
        const std::lock_guard lock(mutex_);
        if (entry->ended)
            return absl::FailedPreconditionError(
                fmt::format("Migration {} has ended already", entry->id));
        drain = entry->drain;
    }
    if (entry->migration) return entry->migration->resume();
    if (drain && drain->retry_now()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "nothing is interrupted: there is no drain that waits for its destination");
}

namespace {

// What an operator is to make sure of, whose word can't be taken back.
std::string what_to_confirm(Fate fate, const std::string& vm, const std::string& destination) {
    switch (fate) {
        case Fate::kAtDestination:
            return fmt::format(
                "The source's copy of {0} would be ended for ever: make sure that {0} runs at {1}.",
                vm, destination);
        case Fate::kRefused:
            return fmt::format(
                "{0} would run here: if it runs at {1} as well, its disks are lost. Make sure that "
                "it never will there: {1} is powered off, or {0}'s QEMU there is killed and its "
                "agent's state directory is gone.",
                vm, destination);
        case Fate::kNowhere:
            return fmt::format(
                "What is here of {0} would be let go for ever, and where it still runs at {1} it "
                "would wait for ever for its last pages. Make sure that it does not: {1} was "
                "powered off, or {0}'s QEMU there has ended. Where {0} may never have run there "
                "and a copy stands here, --guest-at source lets that run instead.",
                vm, destination);
    }
    return {};
}

}  // namespace

absl::Status MigrationRegistry::resolve(const std::string& name, Fate fate,
                                        const std::string& confirm) {
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    const v1::MigrationReport now = report_of(*entry);
    const bool has_left =
        now.outcome() == v1::OUTCOME_RUNNING && now.guest_at() == v1::GUEST_AT_DESTINATION;
    const auto refused = [&](const char* why) {
        return absl::FailedPreconditionError(fmt::format("Migration {}: {}", entry->id, why));
    };
    if (now.outcome() != v1::OUTCOME_IN_DOUBT) {
        if (fate != Fate::kNowhere) return refused(has_left ? kHasLeft : kNothingInDoubt);
        if (!has_left) return refused(kIsNotAwaited);
    }
    if (confirm != entry->vm)
        return absl::InvalidArgumentError(
            fmt::format("{} Confirm with the VM's name: --confirm {}",
                        what_to_confirm(fate, entry->vm, now.destination()), entry->vm));
    GODWIT_ASSIGN_OR_RETURN(const HostPort destination, parse_host_port(now.destination()));
    const auto answer = TransferClient(destination).query(entry->id);
    // One that has lost its records knows nothing; the operator does.
    if (knows_fate(answer))
        return absl::FailedPreconditionError(fmt::format(
            "{} answers ({}): it knows where the guest is, or will soon; nothing was changed",
            now.destination(), v1::IncomingState_Name(answer->state())));
    if (entry->migration) return entry->migration->resolve(fate);
    if (fate != Fate::kRefused && is_guest_running(entry->guest)) return refused(kRunsHere);
    const std::lock_guard lock(mutex_);
    if (fate == Fate::kNowhere ? !entry->in_doubt && !entry->has_left : !entry->in_doubt)
        return refused(fate == Fate::kNowhere ? kIsNotAwaited : kNothingInDoubt);
    if (entry->has_last_pages && fate == Fate::kAtDestination)
        return absl::FailedPreconditionError(kLastPagesAreHere);
    if (entry->has_last_pages && fate == Fate::kRefused && !is_guest_here(entry->guest) &&
        !vms_.is_left_alone(entry->vm))
        return absl::FailedPreconditionError(kCannotComeBack);
    const auto say = [&] { return entry->operators_word.say(fate); };
    if (!entry->drain) return say();
    GODWIT_ASSIGN_OR_RETURN(const bool counts, entry->drain->give_up(fate, say));
    return counts ? absl::OkStatus() : refused(kIsNotAwaited);
}

bool MigrationRegistry::given_back(const std::string& id) {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : entries_) {
        if (entry->id != id) continue;
        if (entry->migration) return entry->migration->given_back();
        const bool said = entry->operators_word.given_back();
        const v1::GuestAt at = entry->report.guest_at();
        if (at == v1::GUEST_AT_DESTINATION) return false;
        // Where the guest is says the same as a word of which the record was lost.
        if (entry->given_back || (entry->ended && at == v1::GUEST_AT_SOURCE)) return true;
        return said && !entry->ended && is_guest_here(entry->guest);
    }
    return false;
}

absl::Status MigrationRegistry::limit(const std::string& name, Bytes bytes_per_second) {
    GODWIT_RETURN_IF_ERROR(check_bandwidth(bytes_per_second));
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    std::shared_ptr<RateLimiter> limiter;
    {
        const std::lock_guard lock(mutex_);
        if (entry->ended)
            return absl::FailedPreconditionError(
                fmt::format("Migration {} has ended already", entry->id));
        limiter = entry->limiter;
    }
    spdlog::info("migration {}: {}", entry->id, limit_text(bytes_per_second));
    if (entry->migration) {
        entry->migration->limit(bytes_per_second);
        return absl::OkStatus();
    }
    if (!limiter)
        return absl::FailedPreconditionError(
            fmt::format("Migration {} sends nothing any more", entry->id));
    limiter->set_rate(bytes_per_second);
    entry->log->message("drain", limit_text(bytes_per_second));
    return absl::OkStatus();
}

v1::MigrationReport MigrationRegistry::report_of(const Entry& entry) {
    const std::lock_guard lock(mutex_);
    v1::MigrationReport report = entry.report;
    if (!entry.ended) {
        report.set_migration_id(entry.id);
        report.set_vm(entry.vm);
        report.set_outcome(v1::OUTCOME_RUNNING);
        if (entry.migration)
            report.set_destination(entry.migration->settings().destination.to_string());
        report.set_reason(entry.pending);
        if (entry.migration && entry.migration->is_held()) report.set_reason(held_text(entry.id));
        if (entry.committed) report.set_retry_safe(false);
        if (entry.migration && entry.migration->resumed_there())
            report.set_guest_at(v1::GUEST_AT_DESTINATION);
        if (entry.drain) report.set_guest_at(entry.report.guest_at());
        if (entry.in_doubt || (entry.migration && entry.migration->in_doubt())) {
            report.set_outcome(v1::OUTCOME_IN_DOUBT);
            report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
            report.set_retry_safe(false);
            report.set_reason("COMMIT was sent and the destination has not answered yet");
        }
    }
    return report;
}

absl::StatusOr<v1::MigrationReport> MigrationRegistry::report(const std::string& name) {
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    return report_of(*entry);
}

std::vector<v1::MigrationReport> MigrationRegistry::list() {
    std::vector<std::shared_ptr<Entry>> entries;
    {
        const std::lock_guard lock(mutex_);
        entries = entries_;
    }
    std::vector<v1::MigrationReport> reports;
    reports.reserve(entries.size());
    for (const auto& entry : entries) reports.push_back(report_of(*entry));
    return reports;
}

absl::Status MigrationRegistry::watch(const std::string& name,
                                      const std::function<bool(const v1::MigrationEvent*)>& visit) {
    const std::shared_ptr<Entry> entry = find(name);
    if (!entry) return unknown(name);
    if (entry->migration) {
        entry->migration->log().follow(visit);
        return absl::OkStatus();
    }
    if (entry->log) {
        entry->log->follow(visit);
        return absl::OkStatus();
    }
    const v1::MigrationEvent event = last_event(report_of(*entry));
    visit(&event);
    return absl::OkStatus();
}

}  // namespace godwit
