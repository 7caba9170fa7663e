#include "tests/fault/libvirt_kill_lab.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "engine/base/wait.h"
#include "tests/fault/leavings.h"

namespace godwit::testing {
namespace {

constexpr Duration kOrderLimit = std::chrono::seconds(60);
constexpr Duration kVictimLimit = std::chrono::seconds(60);

void wait_for(Duration length) {
    wait_readable(-1, -1, Clock::system().now() + length).IgnoreError();
}

bool is_libvirtd(Victim victim) {
    return victim == Victim::kSourceLibvirtd || victim == Victim::kDestinationLibvirtd;
}

}  // namespace

void LibvirtKillLab::SetUp() {
    LibvirtPair::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // Not in a state directory: what names one is taken for its agent's.
    std::string pattern = "/tmp/gwk-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    const CommandResult made = run_command({program("guest-disk"), directory_ + "/disk.raw", "8M"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
}

LibvirtKillLab::~LibvirtKillLab() {
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

void LibvirtKillLab::TearDown() {
    if (witness_) witness_->expect_one();
    for (const int number : {0, 1}) {
        host(number).signal_libvirtd(SIGCONT);
        if (number == 0 ? a : b) let_go(agent(number));
    }
}

int LibvirtKillLab::host_of(Victim victim) const {
    const bool there = victim == Victim::kDestinationAgent || victim == Victim::kDestinationQemu ||
                       victim == Victim::kDestinationLibvirtd;
    return there ? 1 - at_ : at_;
}

void LibvirtKillLab::boot_domain() {
    at_ = 0;
    DomainOptions domain;
    domain.memory_mib = 64;
    domain.append = std::string(kStruckGuestWords) + " disk=on";
    domain.devices = fmt::format(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}/disk.raw'/>"
        "<target dev='vda' bus='virtio'/>"
        "<address type='pci' domain='0' bus='0' slot='0x10' function='0'/></disk>",
        directory_);
    start(domain);
    if (!HasFailure()) has_domain_ = true;
}

void LibvirtKillLab::rehearse_move(const std::string& strategy) {
    if (undisturbed_.count(strategy) > 0) return;
    const MonotonicTime begin = Clock::system().now();
    const CommandResult result =
        migrate(source(), destination().address(), kVm, flags_of(strategy, "auto"));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    undisturbed_[strategy] = Clock::system().now() - begin;
    at_ = 1 - at_;
    expect_one_domain_at(at_);
    // What an agent has that has moved a guest, and is at rest.
    for (const int number : {0, 1}) {
        auto& rest = number == at_ ? rest_with_domain_ : rest_without_;
        for (const auto& [kind, count] : descriptors_of(agent(number).pid()))
            rest[kind] = std::max(rest[kind], count);
    }
    for (const char* kind : {"pc.ram", "userfaultfd", "pidfd"})
        EXPECT_EQ(rest_without_.count(kind), 0U) << kind;
}

void LibvirtKillLab::run(const KillPlan& plan) {
    print_line(describe(plan));
    SCOPED_TRACE(describe(plan));
    if (!has_domain_) boot_domain();
    if (!HasFailure()) rehearse_move(plan.strategy);
    if (HasFailure()) return;
    course_.emplace(source(), destination(), fmt::format("kill-{}", ++count_));
    TestAgent& holder = plan.step_at_source ? source() : destination();
    if (plan.moment == Moment::kAtStep)
        holder.restart_with({"--test-hold-at", std::string(plan.step)});
    qemu_of_source_ = source().qemu_pid(kVm);
    witness_.emplace(source(), [&there = host(1 - at_)] { return there.ram_files(); });
    BackgroundCommand command = course_->begin(plan);
    course_->await_moment(plan, undisturbed_[plan.strategy], command);
    strike(plan, command);
    std::string at = course_->await_end(command);
    if (HasFailure()) return;
    // Once all of it was there the migration was done, and the guest has died of something else.
    if (at == "destination" && plan.kind.victim == Victim::kDestinationQemu &&
        qemus_at(1 - at_).empty())
        at = "none";
    // A hold that was never reached would catch the next migration.
    if (plan.moment == Moment::kAtStep) holder.restart_with({});
    witness_->expect_one();
    EXPECT_FALSE(at == "source" && witness_->ran_at_destination());
    witness_.reset();  // it keeps the memory that it looks at
    if (at == "none") {
        expect_died_of(plan);
        return expect_no_domain();
    }
    if (at == "destination") at_ = 1 - at_;
    expect_one_domain_at(at_);
    if (at == "source" && !HasFailure()) expect_move_again(plan);
}

// --- what is done ---------------------------------------------------------------------------

void LibvirtKillLab::strike(const KillPlan& plan, BackgroundCommand& command) {
    ran_there_before_ = witness_->ran_at_destination();
    const Victim victim = plan.kind.victim;
    if (is_libvirtd(victim)) return strike_libvirtd(plan);
    if (victim != Victim::kSourceAgent && victim != Victim::kDestinationAgent)
        return kill_process_of(victim, command);
    TestAgent& struck = agent(host_of(victim));
    struck.end(SIGKILL);
    free_both();
    wait_for(plan.length);
    struck.restart_with({});
}

void LibvirtKillLab::strike_libvirtd(const KillPlan& plan) {
    const int number = host_of(plan.kind.victim);
    LibvirtHost& struck = host(number);
    if (plan.kind.fault == Fault::kStop) struck.signal_libvirtd(SIGSTOP);
    if (plan.kind.fault == Fault::kKill) struck.kill_libvirtd();
    if (plan.kind.fault == Fault::kRestart) struck.stop_libvirtd();
    free_both();
    wait_for(plan.length / 2);
    if (plan.agent_too) agent(number).end(SIGKILL);
    wait_for(plan.length / 2);
    if (plan.kind.fault == Fault::kStop)
        struck.signal_libvirtd(SIGCONT);
    else
        struck.start_libvirtd();
    EXPECT_EQ(struck.problem(), "");
    // An agent needs a libvirtd to begin with.
    if (plan.agent_too) agent(number).restart_with({});
}

std::vector<pid_t> LibvirtKillLab::qemus_at(int number) {
    std::vector<pid_t> pids;
    for (const HostProcess& process : host(number).processes())
        if (process.words.find(fmt::format("guest={},", kVm)) != std::string::npos)
            pids.push_back(process.pid);
    return pids;
}

void LibvirtKillLab::kill_process_of(Victim victim, BackgroundCommand& command) {
    std::vector<pid_t> found;
    const auto look = [&] {
        if (victim == Victim::kGuard) {
            found = guards_of(source());
        } else if (victim == Victim::kDestinationQemu) {
            found = qemus_at(1 - at_);
        } else {
            if (::kill(qemu_of_source_, 0) != 0) return true;
            found = {qemu_of_source_};
        }
        // What is held would never make one.
        return !found.empty() || command.wait(Duration::zero());
    };
    if (!look()) {
        free_both();
        eventually(kVictimLimit, look);
    }
    if (found.empty()) print_line("    there is none any more");
    for (const pid_t pid : found) ::kill(pid, SIGKILL);
    committed_after_ = course_->may_have_committed();
    free_both();
}

void LibvirtKillLab::free_both() {
    for (const TestAgent* agent : {&*a, &*b}) let_go(*agent);
}

// --- what holds after it --------------------------------------------------------------------

void LibvirtKillLab::expect_died_of(const KillPlan& plan) {
    const bool of_source = plan.kind.victim == Victim::kSourceQemu;
    EXPECT_TRUE(of_source || plan.kind.victim == Victim::kDestinationQemu)
        << "the guest has died of that";
    EXPECT_FALSE(of_source && ran_there_before_) << "it died with a QEMU that it had left";
    EXPECT_FALSE(!of_source && !committed_after_) << "it died where it had never been";
}

std::string LibvirtKillLab::settings_left_on(const LibvirtHost& host) {
    const CommandResult asked =
        host.virsh({"qemu-monitor-command", kVm, R"({"execute":"query-migrate-capabilities"})"});
    const nlohmann::json reply = json_of(asked);
    if (!reply.is_object() || !reply.contains("return")) return asked.err;
    std::string on;
    for (const auto& each : reply["return"]) {
        const std::string name = each["capability"];
        // libvirt has QEMU tell of its migrations from its start on.
        if (name != "events" && each["state"].get<bool>()) on += name + " ";
    }
    return on;
}

void LibvirtKillLab::expect_one_domain_at(int number) {
    TestAgent& here = agent(number);
    nlohmann::json found;
    EXPECT_TRUE(eventually(kOrderLimit, [&] {
        found = here.vm(kVm);
        // Memory that came page by page is put together first.
        return found.is_object() && found["state"] == "running" && found["migration_id"] == "";
    })) << found.dump(2);
    if (HasFailure()) return;
    expect_only_what_belongs(number);
    expect_only_at(host(number), here, host(1 - number), number == 0 ? "" : "shut off");
    expect_alive_and_well(here, kVm, kWholeSweep);
    const uint64_t reads = testimony(here, kVm).disk_reads;
    EXPECT_TRUE(eventually(kOrderLimit, [&] { return testimony(here, kVm).disk_reads > reads; }))
        << "the guest's disk does not answer";
    const pid_t qemu = here.qemu_pid(kVm);
    EXPECT_FALSE(has_missing_faults(qemu)) << "faults are not the kernel's again";
    EXPECT_LE(descriptors_of(qemu)["userfaultfd"], 1);
    std::string on;
    EXPECT_TRUE(eventually(kOrderLimit,
                           [&] {
                               on = settings_left_on(host(number));
                               return on.empty();
                           }))
        << "of a migration there is still on: " << on;
    EXPECT_EQ(host(number).virsh_text({"domjobinfo", kVm}).find("None") == std::string::npos,
              false);
}

void LibvirtKillLab::expect_no_domain() {
    has_domain_ = false;
    for (const int number : {0, 1})
        EXPECT_TRUE(eventually(kOrderLimit, [&] { return agent(number).vm_names().empty(); }))
            << absl::StrJoin(agent(number).vm_names(), ", ");
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "");
    expect_only_what_belongs({});
}

std::vector<std::string> LibvirtKillLab::left_at(int number, bool has_domain) {
    std::vector<std::string> left = leavings_of(agent(number), 0);
    size_t qemus = 0;
    for (const HostProcess& process : host(number).processes()) {
        const bool is_domain = process.words.find("guest=") != std::string::npos;
        if (is_domain && has_domain && ++qemus == 1) continue;
        if (process.pid == agent(number).pid()) continue;
        left.push_back(fmt::format("process {}: {}", process.pid, process.words));
    }
    // Where there is a domain it has directories too.
    const auto files = has_domain ? host(number).ram_files() : host(number).memory_files();
    if (files.size() != (has_domain ? 1U : 0U))
        left.push_back("RAM files " + absl::StrJoin(files, ", "));
    if (has_domain) return left;
    for (const std::string& file : host(number).run_files()) left.push_back(file);
    std::ifstream maps(fmt::format("/proc/{}/maps", agent(number).pid()));
    for (std::string line; std::getline(maps, line);)
        if (line.find("/libvirt/qemu/") != std::string::npos) left.push_back("mapping " + line);
    return left;
}

void LibvirtKillLab::expect_only_what_belongs(std::optional<int> number) {
    std::vector<std::string> left;
    const bool tidy = eventually(kOrderLimit, [&] {
        left.clear();
        for (const int each : {0, 1}) {
            const bool has_domain = each == number;
            std::vector<std::string> more = left_at(each, has_domain);
            const auto& rest = has_domain ? rest_with_domain_ : rest_without_;
            if (!rest.empty()) {
                const auto held = more_than(rest, descriptors_of(agent(each).pid()));
                more.insert(more.end(), held.begin(), held.end());
            }
            for (const std::string& what : more)
                left.push_back(fmt::format("host {}: {}", each, what));
        }
        return left.empty();
    });
    EXPECT_TRUE(tidy) << "left behind: " << absl::StrJoin(left, "\n  ");
}

void LibvirtKillLab::expect_move_again(const KillPlan& plan) {
    const CommandResult result =
        migrate(source(), destination().address(), kVm, flags_of(plan.strategy, plan.tracker));
    ASSERT_EQ(result.exit_code, 0) << "a retry fails: " << result.err;
    EXPECT_EQ(json_of(result)["verify"]["mismatches"], 0);
    at_ = 1 - at_;
    expect_one_domain_at(at_);
}

}  // namespace godwit::testing
