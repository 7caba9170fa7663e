#include "tests/sim/guest.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace godwit::sim {

void Qemu::start_guest() {
    if (runs() || !alive()) return;
    world_.say(fmt::format("{}: the guest runs", name_));
    if (guest_.runs_in) world_.violated("two guests run");
    if (guest_.dead) world_.violated("a copy of a guest that died is run");
    if (!at_destination_ && guest_.ran_there) world_.violated("a stale copy is run at the source");
    for (int page = 0; page < kPages; ++page)
        if (!(is_hole_[page] && faults_are_caught_) && memory_[page] != guest_.truth[page])
            world_.violated("the guest runs with wrong memory in " + name_);
    state_ = State::kRunning;
    guest_.runs_in = this;
    guest_.ran_there |= at_destination_;
    write_on(++run_count_);
}

void Qemu::write_on(uint64_t run) {
    world_.after(world_.between(milliseconds(1), seconds(5)), [this, run] {
        if (!runs() || run != run_count_) return;
        write();
        write_on(run);
    });
}

void Qemu::write() {
    if (guest_waits_) return;
    const int page = static_cast<int>(world_.below(kPages));
    guest_waits_ = true;
    touch(page, [this, page] {
        guest_waits_ = false;
        if (!runs()) return;
        memory_[page] = guest_.truth[page] = ++guest_.last_version;
        dirty_.insert(page);
    });
}

void Qemu::stop_guest(State state) {
    if (guest_.runs_in == this) guest_.runs_in = nullptr;
    state_ = state;
}

// --- faults ---------------------------------------------------------------------------------

bool Qemu::misses_pages() const {
    return std::any_of(is_hole_.begin(), is_hole_.end(), [](bool hole) { return hole; });
}

void Qemu::touch(int page, std::function<void()> then) {
    if (is_hole_[page] && faults_are_caught_) {
        waiters_.push_back({.page = page, .then = std::move(then)});
        world_.say(fmt::format("{}: page {} is waited for", name_, page));
        if (on_fault) on_fault(page);
        return;
    }
    if (std::exchange(is_hole_[page], false)) memory_[page] = 0;
    // What is read of a guest that was given back meanwhile is of no use to anybody.
    const bool is_elsewhere = guest_.runs_in != nullptr && guest_.runs_in != this;
    if (!is_elsewhere && memory_[page] != guest_.truth[page])
        world_.violated("a page is read that is not what the guest has written");
    then();
}

void Qemu::wake(int page) {
    std::vector<Waiter> still;
    for (Waiter& waiter : std::exchange(waiters_, {})) {
        if (waiter.page == page)
            world_.after({}, [this, waiter] {
                if (alive()) touch(waiter.page, waiter.then);
            });
        else
            still.push_back(std::move(waiter));
    }
    waiters_ = std::move(still);
}

void Qemu::wake_all() {
    for (int page = 0; page < kPages; ++page) wake(page);
}

void Qemu::let_faults_be() {
    faults_are_caught_ = false;
    wake_all();
}

void Qemu::write_page(int page, int version) {
    is_hole_[page] = false;
    memory_[page] = version;
}

void Qemu::fill_page(int page, int version) {
    if (std::exchange(is_hole_[page], false)) memory_[page] = version;
    wake(page);
}

// --- commands -------------------------------------------------------------------------------

// QEMU carries out one after the other, and answers.
absl::Status Qemu::command(const std::string& name, Duration limit,
                           const std::function<absl::Status()>& act, std::optional<int> needs) {
    const MonotonicTime deadline = world_.now() + limit;
    world_.step(name);
    if (!alive()) return absl::NotFoundError("its QEMU has ended");
    const auto result = std::make_shared<std::optional<absl::Status>>();
    busy_until_ = std::max(busy_until_, world_.now()) + slowness +
                  world_.between(microseconds(50), milliseconds(2));
    slowness = {};
    const auto carry_out = [this, name, act, result] {
        monitor_waits_for_.reset();
        *result = act();
        world_.say(fmt::format("{}: {} {}", name_, name, (*result)->ok() ? "done" : "refused"));
    };
    world_.at(busy_until_, [this, carry_out, needs] {
        if (!alive()) return;
        if (!needs && !monitor_waits_for_) return carry_out();
        // What comes behind a command that waits for a page waits as well.
        if (!monitor_waits_for_) monitor_waits_for_ = needs;
        touch(*monitor_waits_for_, carry_out);
    });
    if (!world_.wait(deadline, [&] { return result->has_value() || !alive(); }))
        return absl::DeadlineExceededError(name_ + " does not answer");
    if (result->has_value()) return **result;
    return absl::NotFoundError("its QEMU has ended");
}

absl::Status Qemu::migrate(Duration limit) {
    return command("migrate", limit, [this] {
        ran_before_save_ = runs();
        stop_guest(State::kPreSwitchover);
        tell("pre-switchover");
        return absl::OkStatus();
    });
}

absl::Status Qemu::migrate_continue(Duration limit) {
    return command("migrate-continue", limit, [this] {
        if (state_ != State::kPreSwitchover) return absl::FailedPreconditionError("not migrating");
        // Whoever carries it may be gone, or go before it has all left.
        world_.after(world_.between(milliseconds(1), milliseconds(5)),
                     [this] { save_ended(on_device_state && on_device_state()); });
        return absl::OkStatus();
    });
}

void Qemu::save_ended(bool well) {
    if (state_ != State::kPreSwitchover) return;
    if (well) {
        state_ = State::kPostMigrate;
        return tell("completed");
    }
    // It goes on by itself, as before.
    tell("failed");
    state_ = State::kPaused;
    if (ran_before_save_) start_guest();
}

absl::Status Qemu::roll_back(bool run, Duration limit) {
    return command("roll-back", limit, [this, run] {
        if (state_ == State::kPreSwitchover || state_ == State::kPostMigrate)
            state_ = State::kPaused;
        if (run) start_guest();
        return absl::OkStatus();
    });
}

absl::Status Qemu::cont(Duration limit) {
    std::optional<int> needs;
    if (misses_pages() && world_.chance(30)) needs = static_cast<int>(world_.below(kPages));
    return command(
        "cont", limit,
        [this] {
            if (refuses_cont) return absl::FailedPreconditionError("Failed to get \"write\" lock");
            cont_written_ = true;
            start_guest();
            tell("resume");
            return absl::OkStatus();
        },
        needs);
}

void Qemu::device_state_came() {
    const auto load = [this] {
        if (state_ != State::kInMigrate) return;
        if (fails_to_load) return tell("failed");
        state_ = State::kPaused;
        tell("completed");
    };
    world_.after(world_.between(milliseconds(1), milliseconds(6)), [this, load] {
        if (!alive()) return;
        // A virtqueue, say.
        if (misses_pages() && world_.chance(50))
            return touch(static_cast<int>(world_.below(kPages)), load);
        load();
    });
}

void Qemu::kill(const std::string& why) {
    if (!alive()) return;
    world_.say(fmt::format("{}: killed: {}", name_, why));
    if (runs()) world_.violated("the QEMU that runs the guest is killed");
    stop_guest(State::kDead);
    tell("gone");
}

void Qemu::die(const std::string& why) {
    if (!alive()) return;
    world_.say(fmt::format("{}: dies: {}", name_, why));
    if (runs()) guest_.dead = true;
    if (runs() || cont_written_) guest_.may_be_lost = true;
    stop_guest(State::kDead);
    tell("gone");
}

}  // namespace godwit::sim
