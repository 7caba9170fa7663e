// What a plan says is done, and undone.
#include <fmt/format.h>
#include <signal.h>
#include <sys/statvfs.h>

#include "engine/base/wait.h"
#include "tests/fault/kill_lab.h"
#include "tests/fault/leavings.h"
#include "tests/harness/full_disk.h"
#include "tests/harness/memory_limit.h"

namespace godwit::testing {
namespace {

constexpr Duration kFindLimit = std::chrono::seconds(60);
constexpr Bytes kStarving = Bytes{128} << 10;
// A process that takes no memory in this time is not killed for taking too much.
constexpr Duration kStarvesWithin = std::chrono::seconds(3);

void stay(Duration length) { wait_readable(-1, -1, Clock::system().now() + length).IgnoreError(); }

bool is_agent(Victim victim) {
    return victim == Victim::kSourceAgent || victim == Victim::kDestinationAgent;
}

}  // namespace

int KillLab::host_of(Victim victim) const {
    const bool there = victim == Victim::kDestinationAgent || victim == Victim::kDestinationQemu;
    return there ? 1 - at_ : at_;
}

void KillLab::let_go_of_both() {
    for (const TestAgent& agent : agents_) let_go(agent);
}

void KillLab::bring_back(int host, std::optional<Duration> clock_step) {
    AgentOptions options = options_of(host);
    if (clock_step) {
        Duration shift = *clock_step;
        // Not before the host's boot, where such a clock begins.
        if (shift < Duration::zero())
            shift = std::max(shift, -(Clock::system().now().time_since_epoch() * 9 / 10));
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(shift).count();
        options.wrapper.insert(options.wrapper.end(),
                               {"unshare", "--time", "--monotonic", std::to_string(seconds)});
    }
    agents_[host].restart(std::move(options));
}

void KillLab::strike(const KillPlan& plan, BackgroundCommand& command) {
    ran_there_before_ = witness_->ran_at_destination();
    switch (plan.kind.fault) {
        case Fault::kKill:
        case Fault::kStop:
        case Fault::kClock:
            if (is_agent(plan.kind.victim))
                strike_agent(plan);
            else
                strike_processes(plan, command);
            break;
        case Fault::kOutOfMemory:
            starve(plan, command);
            break;
        case Fault::kCut:
        case Fault::kHalfOpen:
        case Fault::kCrowdedLink:
            strike_link(plan);
            break;
        case Fault::kFullDisk:
            fill_disk(plan);
            break;
        case Fault::kFullRam:
            fill_ram(plan);
            break;
        case Fault::kRestart:
            ADD_FAILURE() << "what is restarted in order is libvirtd alone";
            break;
    }
}

void KillLab::strike_agent(const KillPlan& plan) {
    const int host = host_of(plan.kind.victim);
    if (plan.kind.fault == Fault::kStop) {
        agents_[host].signal(SIGSTOP);
        let_go_of_both();
        stay(plan.length);
        agents_[host].signal(SIGCONT);
        return;
    }
    agents_[host].end(SIGKILL);
    let_go_of_both();
    stay(plan.length);
    if (plan.kind.fault == Fault::kClock)
        bring_back(host, plan.clock_step);
    else
        bring_back(host);
}

// One that is still to come is waited for.
std::vector<pid_t> KillLab::find(Victim victim, BackgroundCommand& command) {
    std::vector<pid_t> found;
    const auto look = [&] {
        if (is_agent(victim)) {
            found = {agents_[host_of(victim)].pid()};
        } else if (victim == Victim::kGuard) {
            found = guards_of(source());
        } else if (victim == Victim::kDestinationQemu) {
            found = destination().qemu_pids();
        } else {
            const std::vector<pid_t> qemus = source().qemu_pids();
            if (std::find(qemus.begin(), qemus.end(), qemu_of_source_) == qemus.end()) return true;
            found = {qemu_of_source_};
        }
        // What is held would never make one.
        return !found.empty() || command.wait(Duration::zero());
    };
    if (!look()) {
        let_go_of_both();
        eventually(kFindLimit, look);
    }
    if (found.empty()) std::printf("    there is none any more\n");
    return found;
}

void KillLab::strike_processes(const KillPlan& plan, BackgroundCommand& command) {
    const std::vector<pid_t> pids = find(plan.kind.victim, command);
    for (const pid_t pid : pids) ::kill(pid, plan.kind.fault == Fault::kKill ? SIGKILL : SIGSTOP);
    committed_after_ = course_->may_have_committed();
    let_go_of_both();
    if (plan.kind.fault == Fault::kKill) return;
    stay(plan.length);
    for (const pid_t pid : pids) ::kill(pid, SIGCONT);
}

void KillLab::starve(const KillPlan& plan, BackgroundCommand& command) {
    const std::vector<pid_t> pids = find(plan.kind.victim, command);
    auto limit = MemoryLimit::create(kStarving);
    if (!limit.ok()) {
        std::printf("    not done: %s\n", std::string(limit.status().message()).c_str());
        return let_go_of_both();
    }
    for (const pid_t pid : pids) (*limit)->add(pid).IgnoreError();  // it may have gone
    let_go_of_both();
    const auto is_gone = [&] {
        for (const pid_t pid : pids) {
            const auto found = descriptors_of(pid);
            if (!found.empty()) return false;
        }
        return true;
    };
    const bool died = eventually(kStarvesWithin, is_gone);
    committed_after_ = true;  // it died some time
    if (!died) std::printf("    it took no memory\n");
    // What was started meanwhile counted too: the limit ends first.
    limit->reset();
    if (!died || !is_agent(plan.kind.victim)) return;
    const int host = host_of(plan.kind.victim);
    agents_[host].end(SIGKILL);
    stay(plan.length);
    bring_back(host);
}

void KillLab::strike_link(const KillPlan& plan) {
    const int host = host_of(plan.kind.victim);
    const auto set = [&](bool struck) {
        if (plan.kind.fault == Fault::kCut) set_link(host, !struck);
        if (plan.kind.fault == Fault::kHalfOpen) set_mute(host, struck);
        if (plan.kind.fault == Fault::kCrowdedLink) set_crowded(struck);
    };
    set(true);
    let_go_of_both();
    stay(plan.length);
    set(false);
}

void KillLab::fill_disk(const KillPlan& plan) {
    const FullDisk full(agents_[host_of(plan.kind.victim)].state_dir());
    let_go_of_both();
    stay(plan.length);
}

void KillLab::fill_ram(const KillPlan& plan) {
    const std::string mount =
        fmt::format("{}/ram-{}", agents_[host_of(plan.kind.victim)].state_dir(), backing_);
    struct statvfs disk {};
    ASSERT_EQ(::statvfs(mount.c_str(), &disk), 0);
    const uint64_t used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    const auto resize = [&](const std::string& size) {
        return run_command({"mount", "-o", "remount,size=" + size, mount});
    };
    // Smaller than what is in it by now it can't become.
    const CommandResult smaller = resize(std::to_string(used + plan.room + (Bytes{1} << 20)));
    if (smaller.exit_code != 0) std::printf("    not done: %s\n", smaller.err.c_str());
    let_go_of_both();
    stay(plan.length);
    const CommandResult larger = resize("100%");
    EXPECT_EQ(larger.exit_code, 0) << larger.err;
}

}  // namespace godwit::testing
