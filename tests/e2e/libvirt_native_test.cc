// --fallback native: a domain with private RAM is moved by libvirt's own migration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/harness/ending.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr Duration kLimit = std::chrono::seconds(60);

class NativeFallback : public LibvirtPair {
  protected:
    // Its RAM is QEMU's alone: nobody can read there what the guest testifies.
    void start_private(bool persistent = true) {
        DomainOptions domain = restless_domain();
        domain.memory_backing = "";
        const std::string file = host_a.write_xml(domain_xml(domain));
        if (persistent) {
            ASSERT_EQ(host_a.virsh({"define", file}).exit_code, 0);
        }
        const CommandResult started =
            persistent ? host_a.virsh({"start", kVm}) : host_a.virsh({"create", file});
        ASSERT_EQ(started.exit_code, 0) << started.err;
        expect_runs(host_a);
    }
    static uint64_t vcpu_time(const LibvirtHost& host) {
        const std::string stats = host.virsh({"domstats", "--vcpu", kVm}).out;
        const size_t at = stats.find("vcpu.0.time=");
        return at == std::string::npos ? 0 : std::stoull(stats.substr(at + 12));
    }
    static void expect_runs(const LibvirtHost& host) {
        EXPECT_EQ(host.virsh_text({"domstate", kVm}), "running");
        const uint64_t before = vcpu_time(host);
        EXPECT_TRUE(eventually(kLimit, [&] { return vcpu_time(host) > before; }));
    }
    std::vector<std::string> fallback_flags() {
        return {"--fallback",      "native",       "--desturi",
                host_b.peer_uri(), "--migrateuri", host_b.migration_uri()};
    }
    CommandResult migrate_by_fallback(const std::vector<std::string>& more = {}) {
        std::vector<std::string> words = {"migrate", kVm, "--to", b->address()};
        for (const auto& flags : {fallback_flags(), more})
            words.insert(words.end(), flags.begin(), flags.end());
        return a->cli(words);
    }
    json report() { return a->cli_json({"report", kVm}); }
};

TEST_F(NativeFallback, MovesADomainWithPrivateMemory) {
    ASSERT_NO_FATAL_FAILURE(start_private());
    const CommandResult moved = migrate_by_fallback();
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_THAT(moved.out, HasSubstr("moved by the hypervisor itself"));
    const json told = report();
    EXPECT_EQ(told["engine"], "native");
    EXPECT_EQ(told["outcome"], "done");
    EXPECT_EQ(told["guest_at"], "destination");
    EXPECT_GT(told["downtime_ms"], 0);
    EXPECT_GT(told["total_ms"], 0);
    EXPECT_GT(told["wire_bytes"], 0);
    EXPECT_EQ(host_a.virsh_text({"domstate", kVm}), "shut off");
    expect_runs(host_b);
}

TEST_F(NativeFallback, KnowsTheDowntimeOfATransientDomainFromTheDestination) {
    ASSERT_NO_FATAL_FAILURE(start_private(/*persistent=*/false));
    const CommandResult moved = migrate_by_fallback();
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_GT(report()["downtime_ms"], 0);
    EXPECT_EQ(host_a.virsh_text({"list", "--all", "--name"}), "");
    expect_runs(host_b);
}

TEST_F(NativeFallback, IsAbortedByCtrlC) {
    ASSERT_NO_FATAL_FAILURE(start_private());
    std::vector<std::string> words = {"migrate", kVm, "--to", b->address(), "--bandwidth", "1MB/s"};
    const std::vector<std::string> flags = fallback_flags();
    words.insert(words.end(), flags.begin(), flags.end());
    BackgroundCommand command = a->cli_in_background(words);
    ASSERT_TRUE(eventually(kLimit, [&] {
        return host_a.virsh({"domjobinfo", kVm}).out.find("Data processed") != std::string::npos;
    }));
    command.signal(SIGINT);
    ASSERT_TRUE(command.wait(kLimit));
    EXPECT_EQ(command.result().exit_code, 5) << command.result().err;
    EXPECT_EQ(report()["guest_at"], "source");
    EXPECT_THAT(host_a.virsh_text({"domjobinfo", kVm}), HasSubstr("None"));
    EXPECT_EQ(host_b.virsh_text({"list", "--all", "--name"}), "");
    expect_runs(host_a);
}

TEST_F(NativeFallback, IsNotTakenWhereGodwitCanMoveTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    const CommandResult moved = migrate_by_fallback({"--strategy", "stop-and-copy"});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_EQ(report()["engine"], "godwit");
    expect_only_at(host_b, *b, host_a, "shut off");
}

TEST_F(NativeFallback, SaysWhatLibvirtSaysWhereItFails) {
    ASSERT_NO_FATAL_FAILURE(start_private());
    const CommandResult failed =
        a->cli({"migrate", kVm, "--to", b->address(), "--fallback", "native", "--desturi",
                "qemu+unix:///system?socket=/nowhere"});
    EXPECT_EQ(failed.exit_code, 1) << failed.err;
    EXPECT_THAT(failed.err, HasSubstr("libvirt's own migration to qemu+unix:"));
    EXPECT_THAT(failed.err, HasSubstr("the guest is at the source"));
    expect_runs(host_a);
}

}  // namespace
}  // namespace godwit::testing
