#include "bench/lab/libvirt_engine.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "bench/guest/mailbox_layout.h"
#include "bench/lab/libvirt_words.h"
#include "bench/lab/qemu_engine.h"
#include "engine/base/wait.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr int kSourceHost = 0;
constexpr int kDestinationHost = 1;
constexpr Duration kVirshLimit = std::chrono::seconds(60);
constexpr Duration kEndOfGuestLimit = std::chrono::seconds(10);
// How often a new QEMU, or an event, is looked for while virsh migrates.
constexpr Duration kMigrateGlance = std::chrono::milliseconds(2);

std::string next_domain() {
    static std::atomic<int> count = 0;
    return fmt::format("lab{}", ++count);
}

// When it was by this process's clock; both clocks are read now.
MonotonicTime monotonic_at(std::chrono::microseconds stamp) {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    return Clock::system().now() - std::chrono::duration_cast<Duration>(wall - stamp);
}

void kill_and_wait(pid_t pid) {
    const auto started = process_start_time(pid);
    if (!started.ok()) return;
    const auto process = open_process({.pid = pid, .start_time = *started});
    if (!process.ok() || !send_signal(process->get(), SIGKILL).ok()) return;
    (void)wait_readable(process->get(), -1, Clock::system().now() + kEndOfGuestLimit);
}

}  // namespace

LibvirtEngine::LibvirtEngine(EngineName name, const LabSetup& setup)
    : name_(std::move(name)), setup_(setup), domain_(next_domain()) {}

LibvirtEngine::~LibvirtEngine() {
    if (setup_.libvirt == nullptr) return;
    for (const pid_t pid : setup_.libvirt->qemus_of(domain_)) kill_and_wait(pid);
}

bool LibvirtEngine::find_guest(int which) {
    SideState& side = sides_[static_cast<size_t>(which)];
    const SideState& other = sides_[static_cast<size_t>(1 - which)];
    for (const pid_t pid : setup_.libvirt->qemus_of(domain_)) {
        if (pid == other.pid) continue;
        const auto ram = find_private_ram(read_process_file(pid, "maps"), setup_.guest.memory);
        if (!ram) continue;
        side.pid = pid;
        side.mailbox = *ram + kMailboxAddress;
        return side.ticks->show(pid, side.mailbox);
    }
    return false;
}

absl::Status LibvirtEngine::start_domain() {
    const std::string path = setup_.libvirt->directory() + "/domain.xml";
    std::ofstream out(path);
    out << lab_domain_xml(domain_, setup_.qemu, setup_.guest);
    out.close();
    if (!out) return absl::UnavailableError(fmt::format("Cannot write {}", path));
    for (const int which : {kSourceHost, kDestinationHost}) {
        GODWIT_ASSIGN_OR_RETURN(Child events,
                                setup_.libvirt->begin(which, {"qemu-monitor-event", "--loop"}));
        sides_[static_cast<size_t>(which)].events.emplace(std::move(events));
    }
    return setup_.libvirt->run(kSourceHost, {"create", path}, kVirshLimit).status();
}

absl::Status LibvirtEngine::start_guest() {
    if (setup_.libvirt == nullptr)
        return absl::UnimplementedError("libvirt's migration is godwit-lab's alone");
    GODWIT_RETURN_IF_ERROR(setup_.libvirt->start());
    GODWIT_RETURN_IF_ERROR(start_domain());
    if (!find_guest(kSourceHost))
        return absl::InternalError("the memory of libvirt's QEMU is not where it was expected");
    GODWIT_RETURN_IF_ERROR(set_downtime_limit());
    if (setup_.guest.service) return absl::OkStatus();
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, mailbox());
    return wait_until_running(reader, setup_.cancel_fd);
}

absl::Status LibvirtEngine::set_downtime_limit() {
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(setup_.downtime_limit).count();
    return setup_.libvirt
        ->run(kSourceHost, {"migrate-setmaxdowntime", domain_, std::to_string(ms)}, kVirshLimit)
        .status();
}

absl::StatusOr<Metrics> LibvirtEngine::move() {
    requested_ = Clock::system().now();
    std::vector<std::string> words{"migrate", domain_, setup_.libvirt->destination_uri(),
                                   "--migrateuri",
                                   fmt::format("tcp://{}", setup_.hosts[kDestinationHost].address)};
    // A disk in a plain directory, which both hosts have: libvirt cannot know that it is the same.
    if (!setup_.guest.disk.empty()) words.emplace_back("--unsafe");
    for (std::string& flag : libvirt_migrate_flags(name_, setup_.bandwidth))
        words.push_back(std::move(flag));
    GODWIT_ASSIGN_OR_RETURN(Child virsh, setup_.libvirt->begin(kSourceHost, words));
    GODWIT_RETURN_IF_ERROR(follow(virsh, requested_ + setup_.limit));
    const double command_ms = to_ms(Clock::system().now() - requested_);
    moved_ = true;

    GODWIT_ASSIGN_OR_RETURN(const SeenEvent begun, event(Side::kSource, "MIGRATION", "active"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent stop, event(Side::kSource, "STOP", ""));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent source_done,
                            event(Side::kSource, "MIGRATION", "completed"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent destination_done,
                            event(Side::kDestination, "MIGRATION", "completed"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent resume, event(Side::kDestination, "RESUME", ""));
    const MonotonicTime done = std::max(source_done.at, destination_done.at);
    Metrics metrics{{"total_ms", to_ms(done - requested_)},
                    {"prepare_ms", to_ms(begun.at - requested_)},
                    {"command_ms", command_ms},
                    {"downtime_ms", ms_between(stop, resume)}};
    if (is_postcopy(name_.mode)) metrics["drain_ms"] = std::max(0.0, to_ms(done - resume.at));
    return metrics;
}

absl::Status LibvirtEngine::follow(Child& virsh, MonotonicTime deadline) {
    bool found = false;
    bool switched = !is_postcopy(name_.mode);
    for (;;) {
        const MonotonicTime now = Clock::system().now();
        if (now > deadline) return absl::DeadlineExceededError("virsh migrate does not end");
        const bool glances = !found || !switched;
        const auto code = virsh.wait(glances ? std::min(deadline, now + kMigrateGlance) : deadline,
                                     setup_.cancel_fd);
        if (absl::IsCancelled(code.status())) return code.status();
        if (code.ok() && *code == 0) {
            if (found || find_guest(kDestinationHost)) return absl::OkStatus();
            return absl::InternalError("the guest is not at the destination after virsh migrate");
        }
        if (code.ok())
            return absl::FailedPreconditionError(fmt::format("virsh migrate: {}", virsh.err()));
        if (!found) found = find_guest(kDestinationHost);
        if (switched) continue;
        const std::vector<SeenEvent> seen = events();
        switched = std::any_of(seen.begin(), seen.end(), [](const SeenEvent& one) {
            return one.side == Side::kSource && one.status == "active";
        });
        // It may have ended by itself meanwhile, which virsh migrate tells.
        if (switched)
            (void)setup_.libvirt->run(kSourceHost, {"migrate-postcopy", domain_}, kVirshLimit);
    }
}

std::vector<SeenEvent> LibvirtEngine::events() const {
    std::vector<SeenEvent> all;
    for (const int which : {kSourceHost, kDestinationHost}) {
        const auto& listener = sides_[static_cast<size_t>(which)].events;
        if (!listener) continue;
        for (SeenEvent& one :
             parse_monitor_events(listener->out(), domain_,
                                  which == kSourceHost ? Side::kSource : Side::kDestination)) {
            one.at = monotonic_at(one.stamp);
            all.push_back(std::move(one));
        }
    }
    return all;
}

absl::StatusOr<SeenEvent> LibvirtEngine::event(Side side, const char* name,
                                               const char* status) const {
    const std::string_view wanted = status;
    const MonotonicTime deadline = Clock::system().now() + kEndOfGuestLimit;
    while (Clock::system().now() < deadline) {
        for (SeenEvent& one : events())
            if (one.side == side && one.name == name && (wanted.empty() || one.status == wanted))
                return std::move(one);
        // virsh writes what it hears into a file.
        const absl::Status waited =
            wait_readable(-1, setup_.cancel_fd, Clock::system().now() + kMigrateGlance);
        if (absl::IsCancelled(waited)) return waited;
    }
    return absl::DeadlineExceededError(
        fmt::format("libvirt told of no {} {} at the {}", name, status,
                    side == Side::kSource ? "source" : "destination"));
}

absl::StatusOr<Metrics> LibvirtEngine::details() {
    GODWIT_ASSIGN_OR_RETURN(
        const std::string told,
        setup_.libvirt->run(kDestinationHost, {"domjobinfo", domain_, "--completed", "--rawstats"},
                            kVirshLimit));
    Metrics metrics = libvirt_metrics(told);
    if (!is_postcopy(name_.mode)) metrics.erase("faults");
    return metrics;
}

absl::StatusOr<nlohmann::json> LibvirtEngine::series() {
    return qemu_series(events(), requested_, nlohmann::json::object());
}

absl::StatusOr<MailboxReader> LibvirtEngine::mailbox() {
    const SideState& side = sides_[moved_ ? kDestinationHost : kSourceHost];
    return MailboxReader::open_process(side.pid, side.mailbox);
}

}  // namespace godwit
