// Two hosts with a libvirt each, and an agent on either.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/harness/agent.h"
#include "tests/harness/libvirt_host.h"

namespace godwit::testing {

class LibvirtPair : public ::testing::Test {
  protected:
    static constexpr const char* kVm = "vm";

    // `emulation`: whether the tests hold for a guest under TCG too: less to do, and slower.
    explicit LibvirtPair(Emulation emulation = Emulation::kNeedsKvm)
        : host_a("hosta", LibvirtHost::kMemory, LibvirtKind::kDaemon, emulation),
          host_b("hostb", LibvirtHost::kMemory, LibvirtKind::kDaemon, emulation) {}
    // Skips the test where there is no libvirt, or no KVM that it needs.
    void SetUp() override;
    // On a, as domain_here().
    void start(const DomainOptions& domain = {}) { start_domain(host_a, *a, domain_here(domain)); }
    // `godwit migrate` from a to b, in the background, with --json.
    BackgroundCommand begin_migration(const std::vector<std::string>& flags = {});
    // The same, and it takes half a minute at least; b's domain waits.
    BackgroundCommand begin_slow_migration(std::vector<std::string> flags = {});
    // The guest runs at `here` alone, alive and well, and no migration holds it. At `there` virsh
    // knows the domain as `state_there` ("shut off"), or, where that is empty, not at all.
    void expect_only_at(LibvirtHost& here, TestAgent& agent, const LibvirtHost& there,
                        const std::string& state_there);
    // The guest runs at a; b has nothing of it; a migration moves it to b.
    void expect_at_a_and_moves();
    // libvirt's own migration would leave the RAM behind otherwise.
    static void expect_capability_off(const LibvirtHost& host);

    LibvirtHost host_a;
    LibvirtHost host_b;
    std::optional<TestAgent> a;
    std::optional<TestAgent> b;
};

// A guest that live rounds never end.
inline DomainOptions restless_domain() { return {.append = "ws=128M rate=0 pattern=random"}; }

}  // namespace godwit::testing
