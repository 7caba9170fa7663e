// Two hosts with a libvirt each, and a domain that goes there and back between them while something
// is done to its libvirtds, its agents, its guard or its QEMUs.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "tests/fault/drain_lab.h"
#include "tests/fault/kill_course.h"
#include "tests/fault/kill_plan.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {

// The hosts and agents of one lab see many migrations; who is killed is started again. Host 0 has
// the domain's definition; at host 1 it is transient.
class LibvirtKillLab : public LibvirtPair {
  protected:
    ~LibvirtKillLab() override;
    LibvirtKillLab() : LibvirtPair(Emulation::kTakesTcg) {}
    void SetUp() override;
    void TearDown() override;

    // One migration, what befalls it, and all that must hold after it.
    void run(const KillPlan& plan);

  private:
    LibvirtHost& host(int number) { return number == 0 ? host_a : host_b; }
    TestAgent& agent(int number) { return number == 0 ? *a : *b; }
    TestAgent& source() { return agent(at_); }
    TestAgent& destination() { return agent(1 - at_); }
    [[nodiscard]] int host_of(Victim victim) const;

    void boot_domain();
    void rehearse_move(const std::string& strategy);

    // What is struck is also free again, or back, when it returns.
    void strike(const KillPlan& plan, BackgroundCommand& command);
    void strike_libvirtd(const KillPlan& plan);
    // One that is still to come is waited for.
    void kill_process_of(Victim victim, BackgroundCommand& command);
    std::vector<pid_t> qemus_at(int number);
    void free_both();

    void expect_died_of(const KillPlan& plan);
    void expect_one_domain_at(int number);
    void expect_no_domain();
    void expect_move_again(const KillPlan& plan);
    // Of both hosts, of which `number` has the domain, if any.
    void expect_only_what_belongs(std::optional<int> number);
    std::vector<std::string> left_at(int number, bool has_domain);
    // What a migration sets up in QEMU is put back: virsh's own would be misled.
    static std::string settings_left_on(const LibvirtHost& host);

    std::string directory_;  // of the disk
    int at_ = 0;             // the host that has the domain, and the source of the migration
    bool has_domain_ = false;
    uint64_t count_ = 0;
    std::map<std::string, Duration> undisturbed_;                 // by strategy
    std::map<std::string, int> rest_with_domain_, rest_without_;  // descriptors of an agent
    // Of the migration under way.
    std::optional<KillCourse> course_;
    std::optional<OneGuestWitness> witness_;
    pid_t qemu_of_source_ = -1;
    bool ran_there_before_ = false;  // when it was struck
    bool committed_after_ = false;   // just after it was struck
};

}  // namespace godwit::testing
