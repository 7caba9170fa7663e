#include "tests/fault/kill_lab.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>

#include "engine/base/units.h"
#include "tests/fault/leavings.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kTidyLimit = std::chrono::seconds(60);
constexpr Bytes kStateDisk = Bytes{16} << 20;
// Twice the guest, and some to spare.
constexpr long kHugePages = 72;

}  // namespace

KillLab::KillLab() : agents_{TestAgent(options_of(0)), TestAgent(options_of(1))} {}

KillLab::~KillLab() {
    std::error_code ignored;
    if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

AgentOptions KillLab::options_of(int host) const {
    AgentOptions options = on(host);
    options.disk_bytes = kStateDisk;
    return options;
}

void KillLab::SetUp() {
    if (!problem().empty()) GTEST_SKIP() << "no two hosts here: " << problem();
    std::string pattern = "/tmp/gwk-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    const CommandResult made = run_command({program("guest-disk"), directory_ + "/disk.raw", "8M"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
}

void KillLab::TearDown() {
    if (witness_) witness_->expect_one();
    for (const TestAgent& agent : agents_) {
        agent.signal(SIGCONT);
        for (const pid_t pid : agent.qemu_pids()) ::kill(pid, SIGCONT);
        let_go(agent);
    }
}

void KillLab::use_backing(const std::string& backing) {
    backing_ = backing;
    if (backing != "hugetlb-2M") return;
    reserved_ = std::make_unique<ReservedHugePages>(kHugePages);
    if (reserved_->enough()) return;
    print_line("no huge pages can be reserved here, so with thp");
    reserved_.reset();
    backing_ = "thp";
}

// A mount of huge pages has the size that the host has of them.
bool KillLab::can(const KillKind& kind) const {
    return kind.fault != Fault::kFullRam || backing_ != "hugetlb-2M";
}

void KillLab::boot_guest() {
    GuestOptions guest = small_guest(kVm);
    guest.memory = "64MiB";
    guest.backing = backing_;
    guest.append = kStruckGuestWords;
    guest.extra = fmt::format(
        "disks:\n  - path: {}/disk.raw\n    format: raw\n    cache: writeback\n", directory_);
    start_guest(source(), guest);
    if (HasFatalFailure()) return;
    has_guest_ = true;
}

void KillLab::rehearse(const std::string& strategy) {
    if (undisturbed_.count(strategy) > 0) return;
    const MonotonicTime begin = Clock::system().now();
    const CommandResult result =
        migrate(source(), destination().address(), kVm, flags_of(strategy, "auto"));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    undisturbed_[strategy] = Clock::system().now() - begin;
    at_ = 1 - at_;
    expect_one_guest_at(at_);
    // What an agent has that has moved a guest, and is at rest.
    for (const int host : {0, 1}) {
        auto& rest = host == at_ ? rest_with_guest_ : rest_without_;
        for (const auto& [kind, count] : descriptors_of(agents_[host].pid()))
            rest[kind] = std::max(rest[kind], count);
    }
    for (const char* kind : {"ram file", "userfaultfd", "pidfd"})
        EXPECT_EQ(rest_without_.count(kind), 0U) << kind;
}

void KillLab::run(const KillPlan& plan) {
    print_line(describe(plan));
    SCOPED_TRACE(describe(plan));
    if (!has_guest_) boot_guest();
    if (!HasFailure()) rehearse(plan.strategy);
    if (HasFailure()) return;
    course_.emplace(source(), destination(), fmt::format("kill-{}", ++count_));
    TestAgent& holder = plan.step_at_source ? source() : destination();
    if (plan.moment == Moment::kAtStep) {
        AgentOptions holding = options_of(&holder == agents_ ? 0 : 1);
        holding.flags = {"--test-hold-at", std::string(plan.step)};
        holder.restart(std::move(holding));
    }
    qemu_of_source_ = source().qemu_pid(kVm);
    witness_.emplace(source(), destination());
    BackgroundCommand command = course_->begin(plan);
    course_->await_moment(plan, undisturbed_[plan.strategy], command);
    strike(plan, command);
    std::string at = course_->await_end(command);
    if (HasFailure()) return;
    // Once all of it was there the migration was done, and the guest has died of something else.
    if (at == "destination" && may_die_at_destination(plan) && destination().qemu_pids().empty())
        at = "none";
    // A hold that was never reached would catch the next migration.
    if (plan.moment == Moment::kAtStep) bring_back(&holder == agents_ ? 0 : 1);
    witness_->expect_one();
    EXPECT_FALSE(at == "source" && witness_->ran_at_destination());
    witness_.reset();  // it keeps the memory that it looks at
    if (at == "none") {
        expect_may_be_none(plan);
        return expect_nothing_anywhere();
    }
    if (at == "destination") at_ = 1 - at_;
    expect_one_guest_at(at_);
    if (at == "source" && !HasFailure()) expect_retry(plan);
}

bool KillLab::may_die_at_destination(const KillPlan& plan) {
    const Victim victim = plan.kind.victim;
    if (plan.kind.fault == Fault::kKill) return victim == Victim::kDestinationQemu;
    // Where memory is short the kernel takes the agent or the QEMU that it has started.
    return plan.kind.fault == Fault::kOutOfMemory &&
           (victim == Victim::kDestinationQemu || victim == Victim::kDestinationAgent);
}

void KillLab::expect_may_be_none(const KillPlan& plan) {
    const bool of_source =
        plan.kind.victim == Victim::kSourceQemu &&
        (plan.kind.fault == Fault::kKill || plan.kind.fault == Fault::kOutOfMemory);
    EXPECT_TRUE(of_source || may_die_at_destination(plan)) << "the guest has died of that";
    EXPECT_FALSE(of_source && ran_there_before_) << "it died with a QEMU that it had left";
    EXPECT_FALSE(!of_source && !committed_after_) << "it died where it had never been";
}

void KillLab::expect_one_guest_at(int host) {
    TestAgent& here = agents_[host];
    nlohmann::json found;
    EXPECT_TRUE(eventually(kTidyLimit, [&] {
        found = here.vm(kVm);
        // Memory that came page by page is put together first.
        return found.is_object() && found["state"] == "running" && found["migration_id"] == "";
    })) << found.dump(2);
    if (HasFailure()) return;
    expect_alive_and_well(here, kVm, kWholeSweep);
    const uint64_t reads = testimony(here, kVm).disk_reads;
    EXPECT_TRUE(eventually(kTidyLimit, [&] { return testimony(here, kVm).disk_reads > reads; }))
        << "the guest's disk does not answer";
    const pid_t qemu = here.qemu_pid(kVm);
    EXPECT_FALSE(has_missing_faults(qemu)) << "faults are not the kernel's again";
    EXPECT_LE(descriptors_of(qemu)["userfaultfd"], 1);
    expect_no_leavings(host == 0 ? 1 : 0, host == 1 ? 1 : 0);
}

void KillLab::expect_nothing_anywhere() {
    has_guest_ = false;
    for (TestAgent& agent : agents_)
        EXPECT_TRUE(eventually(kTidyLimit, [&] { return agent.vm_names().empty(); }))
            << absl::StrJoin(agent.vm_names(), ", ");
    expect_no_leavings(0, 0);
}

void KillLab::expect_no_leavings(size_t vms_at_0, size_t vms_at_1) {
    std::vector<std::string> left;
    const size_t vms[2] = {vms_at_0, vms_at_1};
    const bool tidy = eventually(kTidyLimit, [&] {
        left.clear();
        for (const int host : {0, 1}) {
            const auto& rest = vms[host] > 0 ? rest_with_guest_ : rest_without_;
            auto more = leavings_of(agents_[host], vms[host]);
            if (!rest.empty()) {
                const auto held = more_than(rest, descriptors_of(agents_[host].pid()));
                more.insert(more.end(), held.begin(), held.end());
            }
            for (const std::string& what : more)
                left.push_back(fmt::format("host {}: {}", host, what));
        }
        return left.empty();
    });
    EXPECT_TRUE(tidy) << "left behind: " << absl::StrJoin(left, "\n  ");
}

void KillLab::expect_retry(const KillPlan& plan) {
    const CommandResult result =
        migrate(source(), destination().address(), kVm, flags_of(plan.strategy, plan.tracker));
    ASSERT_EQ(result.exit_code, 0) << "a retry fails: " << result.err;
    EXPECT_EQ(json_of(result)["verify"]["mismatches"], 0);
    at_ = 1 - at_;
    expect_one_guest_at(at_);
}

}  // namespace godwit::testing
