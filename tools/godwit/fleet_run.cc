#include "tools/godwit/fleet_run.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr Duration kRedraw = std::chrono::milliseconds(200);
// After COMMIT a migration ends within ms, unless pages follow; this long we wait for that.
constexpr Duration kPatience = std::chrono::seconds(3);
// An agent that is away for a moment is told to proceed when it is back. Each try waits some
// seconds for it by itself.
constexpr int kProceedTries = 20;
constexpr Duration kBetweenTries = std::chrono::milliseconds(200);

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
      is_gang_(options.gang),
      look_closer_(std::move(options.look_closer)),
      terminal_(!options.quiet && ::isatty(STDERR_FILENO) != 0),
      begun_(Clock::system().now()),
      board_(order.vms, look_closer_ ? 1 : order.at_a_time, request.bandwidth_bytes_per_s()),
      order_(order),
      looks_(static_cast<bool>(look_closer_)),
      gathers_(options.gang),
      leaving_(order.vms.size()),
      not_cancelled_(order.vms.size()),
      followers_(order.vms.size()) {}

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
        const absl::Status woken = wait_readable(interrupts_.fd(), changed_.fd(), wakes_at());
        if (absl::IsCancelled(woken)) changed_.drain();
        leave_what_is_due();
    }
    total_ = Clock::system().now() - begun_;
    looker_ = {};
    followers_.clear();
    tellers_.clear();
    if (drawn_lines_ > 0) std::cerr << fmt::format("\033[{}A\r\033[J", drawn_lines_) << std::flush;
}

std::optional<MonotonicTime> FleetRun::wakes_at() {
    const std::lock_guard lock(mutex_);
    std::optional<MonotonicTime> wake = board_.begins_at();
    const auto no_later_than = [&](MonotonicTime time) {
        wake = std::min(wake.value_or(MonotonicTime::max()), time);
    };
    if (terminal_) no_later_than(Clock::system().now() + kRedraw);
    for (const NotCancelled& migration : not_cancelled_)
        if (migration.leave_at) no_later_than(*migration.leave_at);
    return wake;
}

void FleetRun::begin_what_may() {
    std::vector<size_t> begun;
    {
        const std::lock_guard lock(mutex_);
        const bool has_begun = board_.count(FleetStep::kWaiting) < board_.guests().size();
        if (!interrupted_ && !(looks_ && has_begun)) begun = board_.begin(Clock::system().now());
    }
    if (begun.empty()) return;
    look_closer();
    share_link();  // the others give way first
    for (const size_t guest : begun)
        followers_[guest] = std::jthread([this, guest] {
            set_thread_name("fleet-follow");
            follow(guest);
        });
}

void FleetRun::look_closer() {
    if (!look_closer_ || looker_.joinable()) return;
    looker_ = std::jthread([this](const std::stop_token& stop) {
        set_thread_name("fleet-look");
        const absl::StatusOr<FleetOrder> order = look_closer_(stop);
        {
            const std::lock_guard lock(mutex_);
            looks_ = false;
            // Those that wait would have begun at once but for this look.
            if (order.ok()) order_ = *order;
            board_.reorder(order_.vms, order_.at_a_time);
            if (!stop.stop_requested())
                say(order.ok() ? "auto: " + order_.reason
                               : "the order stays: " + std::string(order.status().message()));
        }
        changed_.notify();
    });
}

// By a thread that is waited for, so that those that give way do so first, but only until Ctrl-C:
// an agent may hang.
void FleetRun::share_link() {
    std::vector<Share> shares;
    {
        const std::lock_guard lock(mutex_);
        // What ends needs no share.
        if (interrupted_) return;
        for (const size_t guest : board_.take_unequal())
            shares.push_back(
                {guest, board_.guest(guest).migration_id, board_.guest(guest).bandwidth});
    }
    if (shares.empty()) return;
    const auto told = std::make_shared<std::atomic<bool>>(false);
    tellers_.emplace_back([this, shares = std::move(shares), told] {
        for (const Share& share : shares) tell_share(share);
        *told = true;
        changed_.notify();
    });
    while (!*told &&
           absl::IsCancelled(wait_readable(interrupts_.fd(), changed_.fd(), std::nullopt)))
        changed_.drain();
    if (*told) tellers_.pop_back();
    changed_.notify();  // what else has changed meanwhile is looked at
}

void FleetRun::tell_share(const Share& share) {
    const std::stop_token stop = leaving_[share.guest].get_token();
    if (stop.stop_requested()) return;
    const absl::Status status = agent_.limit(share.id, share.bandwidth, stop);
    // One that has ended meanwhile needs no share.
    if (status.ok() || absl::IsFailedPrecondition(status) || stop.stop_requested()) return;
    const std::lock_guard lock(mutex_);
    say(fmt::format("migration {} keeps its bandwidth: {}", share.id,
                    std::string(status.message())));
}

void FleetRun::follow(size_t guest) {
    v1::MigrateRequest request = request_;
    {
        const std::lock_guard lock(mutex_);
        request.set_vm(board_.guest(guest).vm);
        request.set_bandwidth_bytes_per_s(board_.guest(guest).bandwidth);
    }
    const absl::StatusOr<std::string> id = agent_.migrate(request, leaving_[guest].get_token());
    if (!id.ok()) {
        if (!is_gang_ && is_no_room(id.status())) {
            const std::lock_guard lock(mutex_);
            if (!interrupted_ && board_.had_no_room(guest, Clock::system().now())) {
                changed_.notify();
                return;
            }
        }
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
            const bool was_ready = board_.guest(guest).is_ready;
            board_.event(guest, event);
            if (event.has_report()) report = event.report();
            if (board_.guest(guest).is_ready != was_ready) changed_.notify();
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
        if (!gang_left_by_.empty() && end.code == ExitCode::kCancelled)
            end = end_of_abandoned(std::move(end), gang_left_by_);
        board_.end(guest, std::move(end));
        not_cancelled_[guest].leave_at.reset();
        leaving_[guest].request_stop();
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
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(interrupted_, true)) {
            leave_all();
            return;
        }
        gathers_ = false;
        if (switches_) {
            say("too late to cancel: they switch over; once more leaves them");
            return;
        }
        board_.stop("cancelled before it began", ExitCode::kCancelled);
        to_cancel = under_way();
        say("cancelling");
    }
    looker_.request_stop();
    cancel_all(to_cancel);
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
            if (!all_come && guest.step == FleetStep::kEnded && guest.end.code != ExitCode::kDone &&
                gang_left_by_.empty())
                gang_left_by_ = guest.vm;
        switches_ = all_come;
        say(all_come ? "all are ready: they switch over" : gang_left_by_ + " can't come: all stay");
    }
    if (!all_come) return cancel_all(members);
    // At one moment: who is told first must not wait for the others' answers.
    for (const auto& [guest, id] : members)
        tellers_.emplace_back([this, guest = guest, id = id] { proceed(guest, id); });
}

void FleetRun::proceed(size_t guest, const std::string& id) {
    const std::stop_token stop = leaving_[guest].get_token();
    absl::Status status = agent_.proceed(id, stop);
    for (int tries = 1;
         absl::IsUnavailable(status) && tries < kProceedTries && !stop.stop_requested(); ++tries) {
        wait_readable(-1, -1, Clock::system().now() + kBetweenTries).IgnoreError();
        status = agent_.proceed(id, stop);
    }
    // One that does not wait any more, let go on by hand or on its way to an end, needs no word.
    if (status.ok() || absl::IsFailedPrecondition(status) || stop.stop_requested()) return;
    const std::lock_guard lock(mutex_);
    say(fmt::format("{} was not told to proceed: {}", board_.guest(guest).vm,
                    std::string(status.message())));
}

void FleetRun::cancel_all(const std::vector<std::pair<size_t, std::string>>& members) {
    for (const auto& [guest, id] : members)
        tellers_.emplace_back([this, guest = guest, id = id] { cancel(guest, id); });
}

void FleetRun::cancel(size_t guest, const std::string& id) {
    const absl::Status status = agent_.cancel(id, leaving_[guest].get_token());
    if (status.ok() || leaving_[guest].stop_requested()) return;
    const std::optional<v1::ErrorDetail> detail = detail_of(status);
    const std::lock_guard lock(mutex_);
    // One that a gang leaves behind is followed to its end.
    if (interrupted_) not_cancelled_[guest].leave_at = Clock::system().now() + kPatience;
    // Of any other error nobody knows.
    if (detail && detail->reason() == "TOO_LATE")
        not_cancelled_[guest].guest_at = detail->guest_at();
    say(fmt::format("{}: {}", board_.guest(guest).vm, std::string(status.message())));
    changed_.notify();
}

void FleetRun::leave_all() {
    for (std::stop_source& source : leaving_) source.request_stop();
}

void FleetRun::leave_what_is_due() {
    const std::lock_guard lock(mutex_);
    const MonotonicTime now = Clock::system().now();
    for (size_t i = 0; i < leaving_.size(); ++i) {
        std::optional<MonotonicTime>& leave_at = not_cancelled_[i].leave_at;
        if (!leave_at || now < *leave_at) continue;
        leave_at.reset();
        leaving_[i].request_stop();
    }
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
