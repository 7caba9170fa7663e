#include "tools/godwit/fleet_run.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr Duration kRedraw = std::chrono::milliseconds(200);
// After COMMIT a migration ends within ms, unless pages follow; this long we wait for that.
constexpr Duration kPatience = std::chrono::seconds(3);

FleetRoom terminal_room() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
        return {};
    return {.rows = size.ws_row, .columns = size.ws_col};
}

FleetEnd left(const std::string& id, std::optional<v1::GuestAt> at) {
    return {.code = ExitCode::kNeedsOperator,
            .outcome = "detached",
            .guest_at = at,
            .reason = "it goes on: godwit watch " + id};
}

FleetEnd lost(const std::string& id, const absl::Status& status) {
    return {.code = ExitCode::kNeedsOperator,
            .outcome = "unknown",
            .reason = fmt::format(
                "the agent {}; it goes on, or its successor tells: godwit report {}",
                status.ok() ? "is ending" : "went away: " + std::string(status.message()), id)};
}

bool is_unreachable(const absl::Status& status) {
    const std::optional<v1::ErrorDetail> detail = detail_of(status);
    return !detail || detail->reason() == "AGENT_UNREACHABLE";
}

}  // namespace

FleetRun::FleetRun(AgentClient& agent, const Interrupts& interrupts, Wakeup changed,
                   const FleetOrder& order, const v1::MigrateRequest& request, Options options)
    : agent_(agent),
      interrupts_(interrupts),
      changed_(std::move(changed)),
      request_(request),
      quiet_(options.quiet),
      terminal_(!options.quiet && ::isatty(STDERR_FILENO) != 0),
      begun_(Clock::system().now()),
      board_(order.vms, order.at_a_time, request.bandwidth_bytes_per_s()),
      gathers_(options.gang),
      leaving_(order.vms.size()),
      not_cancelled_(order.vms.size()) {}

void FleetRun::run() {
    while (true) {
        // An interrupt first: what has not begun then never does.
        if (wait_readable(interrupts_.fd(), -1, Clock::system().now()).ok()) interrupt();
        begin_what_may();
        lead_gang();
        share_link();
        draw();
        {
            const std::lock_guard lock(mutex_);
            if (board_.is_over()) break;
        }
        std::optional<MonotonicTime> wake = leave_at_;
        if (terminal_)
            wake = std::min(wake.value_or(MonotonicTime::max()), Clock::system().now() + kRedraw);
        const absl::Status woken = wait_readable(interrupts_.fd(), changed_.fd(), wake);
        if (absl::IsCancelled(woken)) changed_.drain();
        if (leave_at_ && Clock::system().now() >= *leave_at_) {
            leave_at_.reset();
            leave(/*only_not_cancelled=*/true);
        }
    }
    total_ = Clock::system().now() - begun_;
    followers_.clear();
    if (drawn_lines_ > 0) std::cerr << fmt::format("\033[{}A\r\033[J", drawn_lines_) << std::flush;
}

void FleetRun::begin_what_may() {
    std::vector<size_t> begun;
    {
        const std::lock_guard lock(mutex_);
        if (!interrupted_) begun = board_.begin();
    }
    if (begun.empty()) return;
    share_link();  // the others give way first
    for (const size_t guest : begun)
        followers_.emplace_back([this, guest] {
            set_thread_name("fleet-follow");
            follow(guest);
        });
}

void FleetRun::share_link() {
    std::vector<std::pair<std::string, Bytes>> changes;
    {
        const std::lock_guard lock(mutex_);
        for (const size_t guest : board_.take_unequal())
            changes.emplace_back(board_.guest(guest).migration_id, board_.guest(guest).bandwidth);
    }
    for (const auto& [id, bandwidth] : changes) {
        const absl::Status status = agent_.limit(id, bandwidth);
        // One that has ended meanwhile needs no share.
        if (status.ok() || absl::IsFailedPrecondition(status)) continue;
        const std::lock_guard lock(mutex_);
        say(fmt::format("migration {} keeps its bandwidth: {}", id, std::string(status.message())));
    }
}

void FleetRun::follow(size_t guest) {
    v1::MigrateRequest request = request_;
    {
        const std::lock_guard lock(mutex_);
        request.set_vm(board_.guest(guest).vm);
        request.set_bandwidth_bytes_per_s(board_.guest(guest).bandwidth);
    }
    const absl::StatusOr<std::string> id = agent_.migrate(request);
    if (!id.ok()) {
        end(guest, end_of_refused(id.status(), request.vm()), is_unreachable(id.status()));
        return;
    }
    bool stays = false;
    {
        const std::lock_guard lock(mutex_);
        board_.has_id(guest, *id);
        stays = interrupted_ || !gang_left_by_.empty();
    }
    changed_.notify();
    if (stays) cancel(guest, *id);
    std::optional<v1::MigrationReport> report;
    const absl::Status status = agent_.watch(
        *id,
        [&](const v1::MigrationEvent& event) {
            const std::lock_guard lock(mutex_);
            board_.event(guest, event);
            if (event.has_report()) report = event.report();
            if (event.phase() == "ready") changed_.notify();
            if (!terminal_)
                if (const std::string line = fleet_line(board_.guest(guest), event); !line.empty())
                    say(line);
            return true;
        },
        leaving_[guest].get_token());
    if (report) {
        end(guest, end_of(*report));
    } else if (leaving_[guest].stop_requested()) {
        std::optional<v1::GuestAt> at;
        {
            const std::lock_guard lock(mutex_);
            at = not_cancelled_[guest].guest_at;
        }
        end(guest, left(*id, at));
    } else {
        end(guest, lost(*id, status), /*agent_is_away=*/true);
    }
}

void FleetRun::end(size_t guest, FleetEnd end, bool agent_is_away) {
    {
        const std::lock_guard lock(mutex_);
        if (!gang_left_by_.empty() && end.code == ExitCode::kCancelled) {
            end.code = ExitCode::kFailed;
            end.reason = gang_left_by_ + " can't come, and they belong together";
        }
        board_.end(guest, std::move(end));
        if (agent_is_away) board_.stop("the agent went away before it began", ExitCode::kRefused);
        if (!terminal_) say(fleet_verdict(board_.guest(guest)));
    }
    changed_.notify();
}

// The first one cancels, a second one leaves. A migration whose id is not known yet is cancelled
// when it is: by its follower.
void FleetRun::interrupt() {
    interrupts_.drain();
    std::vector<std::pair<size_t, std::string>> to_cancel;
    bool again = false;
    {
        const std::lock_guard lock(mutex_);
        again = std::exchange(interrupted_, true);
        gathers_ = false;
        board_.stop("cancelled before it began", ExitCode::kCancelled);
        to_cancel = under_way();
        if (!again) say("cancelling");
    }
    if (again) {
        leave(/*only_not_cancelled=*/false);
        return;
    }
    for (const auto& [guest, id] : to_cancel) cancel(guest, id);
    leave_at_ = Clock::system().now() + kPatience;
}

std::vector<std::pair<size_t, std::string>> FleetRun::under_way() {
    std::vector<std::pair<size_t, std::string>> found;
    for (size_t i = 0; i < board_.guests().size(); ++i)
        if (board_.guest(i).step == FleetStep::kUnderWay && !board_.guest(i).migration_id.empty())
            found.emplace_back(i, board_.guest(i).migration_id);
    return found;
}

// All are told to proceed once all are ready, or cancelled once one can't come.
void FleetRun::lead_gang() {
    std::vector<std::pair<size_t, std::string>> members;
    bool all_come = false;
    {
        const std::lock_guard lock(mutex_);
        if (!gathers_ || board_.gang_step() == GangStep::kWait) return;
        gathers_ = false;
        all_come = board_.gang_step() == GangStep::kProceed;
        members = under_way();
        for (const FleetGuest& guest : board_.guests())
            if (!all_come && guest.step == FleetStep::kEnded && gang_left_by_.empty())
                gang_left_by_ = guest.vm;
        say(all_come ? "all are ready: they switch over" : gang_left_by_ + " can't come: all stay");
    }
    if (!all_come) {
        for (const auto& [guest, id] : members) cancel(guest, id);
        return;
    }
    // At one moment: who is told first must not wait for the others' answers.
    std::vector<std::jthread> threads;
    threads.reserve(members.size());
    for (const auto& member : members)
        threads.emplace_back([this, &member] {
            const absl::Status status = agent_.proceed(member.second);
            if (status.ok()) return;
            const std::lock_guard lock(mutex_);
            say(fmt::format("{} was not told to proceed: {}", board_.guest(member.first).vm,
                            std::string(status.message())));
        });
}

void FleetRun::cancel(size_t guest, const std::string& id) {
    const absl::Status status = agent_.cancel(id);
    if (status.ok()) return;
    const std::optional<v1::ErrorDetail> detail = detail_of(status);
    const std::lock_guard lock(mutex_);
    not_cancelled_[guest].is_so = true;
    // Of any other error nobody knows.
    if (detail && detail->reason() == "TOO_LATE")
        not_cancelled_[guest].guest_at = detail->guest_at();
    say(fmt::format("{}: {}", board_.guest(guest).vm, std::string(status.message())));
}

void FleetRun::leave(bool only_not_cancelled) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < leaving_.size(); ++i)
        if (!only_not_cancelled || not_cancelled_[i].is_so) leaving_[i].request_stop();
}

void FleetRun::draw() {
    if (!terminal_) return;
    const std::lock_guard lock(mutex_);
    const std::vector<std::string> lines =
        fleet_table(board_, Clock::system().now() - begun_, terminal_room());
    std::string text = drawn_lines_ > 0 ? fmt::format("\033[{}A", drawn_lines_) : std::string();
    for (const std::string& line : lines) text += "\r\033[K" + line + "\n";
    text += "\033[J";
    std::cerr << text << std::flush;
    drawn_lines_ = lines.size();
}

void FleetRun::say(const std::string& line) {
    if (quiet_) return;
    std::cerr << line << std::endl;
    drawn_lines_ = 0;  // the table goes on below it
}

}  // namespace godwit
