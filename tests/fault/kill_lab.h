// Two hosts and a guest that goes there and back between them while something is done to it, its
// agents, its link or their disks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/fault/drain_lab.h"
#include "tests/fault/kill_course.h"
#include "tests/fault/kill_plan.h"
#include "tests/harness/linked_hosts.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit::testing {

// The agents of one lab see many migrations; those that are killed are started again.
class KillLab : protected LinkedHosts, public ::testing::Test {
  protected:
    KillLab();
    ~KillLab() override;
    void SetUp() override;
    void TearDown() override;

    // One migration, what befalls it, and all that must hold after it.
    void run(const KillPlan& plan);
    // "thp", "4k" or "hugetlb-2M"; "thp" where none of these can be reserved.
    void use_backing(const std::string& backing);
    [[nodiscard]] bool can(const KillKind& kind) const;

  private:
    [[nodiscard]] AgentOptions options_of(int host) const;
    TestAgent& source() { return agents_[at_]; }
    TestAgent& destination() { return agents_[1 - at_]; }
    // The host of the victim: an agent's, a QEMU's.
    [[nodiscard]] int host_of(Victim victim) const;

    void boot_guest();
    void rehearse(const std::string& strategy);

    // kill_faults.cc. What is struck is also free again, or back, when it returns.
    void strike(const KillPlan& plan, BackgroundCommand& command);
    void strike_agent(const KillPlan& plan);
    void strike_processes(const KillPlan& plan, BackgroundCommand& command);
    void starve(const KillPlan& plan, BackgroundCommand& command);
    void strike_link(const KillPlan& plan);
    void fill_disk(const KillPlan& plan);
    void fill_ram(const KillPlan& plan);
    std::vector<pid_t> find(Victim victim, BackgroundCommand& command);
    void let_go_of_both();
    void bring_back(int host, std::optional<Duration> clock_step = {});

    // Whether its QEMU there may have been killed.
    static bool may_die_at_destination(const KillPlan& plan);
    // That the guest may have died of this: its QEMU was struck.
    void expect_may_be_none(const KillPlan& plan);
    void expect_one_guest_at(int host);
    void expect_nothing_anywhere();
    void expect_retry(const KillPlan& plan);
    // Of both agents; `vms` of the first.
    void expect_no_leavings(size_t vms_at_0, size_t vms_at_1);

    std::unique_ptr<ReservedHugePages> reserved_;  // ends after the agents
    std::string directory_;                        // of the disks
    std::string backing_ = "thp";
    TestAgent agents_[2];
    int at_ = 0;  // the host that has the guest, and the source of the migration
    bool has_guest_ = false;
    uint64_t count_ = 0;
    std::optional<KillCourse> course_;             // the last
    std::map<std::string, Duration> undisturbed_;  // by strategy
    std::optional<OneGuestWitness> witness_;
    std::map<std::string, int> rest_with_guest_, rest_without_;  // descriptors of an agent
    // Of the migration under way.
    pid_t qemu_of_source_ = -1;
    bool ran_there_before_ = false;  // when it was struck
    bool committed_after_ = false;   // just after it was struck
};

}  // namespace godwit::testing
