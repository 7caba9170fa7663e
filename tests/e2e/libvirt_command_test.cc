// godwit libvirt check and enable, virsh's words, and destinations that have no place for a domain.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class LibvirtCommand : public LibvirtPair {
  protected:
    CommandResult libvirt(const std::vector<std::string>& words) {
        std::vector<std::string> all = {program("godwit"), "libvirt"};
        all.insert(all.end(), words.begin(), words.end());
        return host_a.run(all);
    }
    void define(const std::string& backing) {
        DomainOptions domain;
        domain.memory_backing = backing;
        ASSERT_EQ(host_a.virsh({"define", host_a.write_xml(domain_xml(domain))}).exit_code, 0);
    }
};

TEST_F(LibvirtCommand, ChecksAndEnablesInJson) {
    ASSERT_NO_FATAL_FAILURE(define(""));
    CommandResult result = libvirt({"check", kVm, "--json"});
    EXPECT_EQ(result.exit_code, 3);
    json told = json_of(result);
    EXPECT_EQ(told["can_be_moved"], false);
    EXPECT_EQ(told["running"], false);
    EXPECT_EQ(told["problems"].size(), 1U) << told.dump();
    EXPECT_TRUE(told["notes"].empty()) << "nothing confines it here";
    result = libvirt({"enable", kVm, "--json"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(json_of(result)["changed"], false) << "nobody said --yes";
    result = libvirt({"enable", kVm, "--yes", "--json"});
    told = json_of(result);
    EXPECT_EQ(told["changed"], true) << result.err;
    EXPECT_THAT(told["difference"].get<std::string>(), HasSubstr("+     <source type='file' />"));
    EXPECT_THAT(told["message"].get<std::string>(), HasSubstr("takes effect when it is started"));
    EXPECT_EQ(json_of(libvirt({"check", kVm, "--json"}))["can_be_moved"], true);
    result = libvirt({"check", "nobody", "--json"});
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(json_of(result)["error"].get<std::string>(), HasSubstr("nobody"));
}

TEST_F(LibvirtCommand, NamesADiskThatNoDestinationCanTellFromAnother) {
    DomainOptions domain;
    domain.memory_backing = "";
    domain.devices =
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
        "<source protocol='nbd' name='export'><host name='127.0.0.1' port='10809'/></source>"
        "<target dev='vda' bus='virtio'/></disk>";
    ASSERT_EQ(host_a.virsh({"define", host_a.write_xml(domain_xml(domain))}).exit_code, 0);
    const CommandResult result = libvirt({"check", kVm});
    EXPECT_THAT(result.out, HasSubstr("note: disk without a path (network storage): nothing tells"))
        << result.err;
}

TEST_F(LibvirtCommand, PreloadsTheResidentAndMovesByKvmsDirtyLog) {
    ASSERT_NO_FATAL_FAILURE(define(""));
    CommandResult result = libvirt({"enable", kVm, "--resident", "--yes"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const CommandResult started = host_a.virsh({"start", kVm});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    ASSERT_TRUE(eventually(std::chrono::seconds(60),
                           [&] { return testimony(*a, kVm).state == GuestState::kRunning; }));
    ::unsetenv("GODWIT_TEST_TRACKER");  // NOLINT(concurrency-mt-unsafe): one thread
    move_guest(*a, *b, kVm,
               {"--tracker", "kvm-dirty-log", "--downtime-limit", "500ms", "--on-no-converge",
                "stop-and-copy"});
    if (HasFailure()) return;
    expect_only_at(host_b, *b, host_a, "shut off");
    move_guest(*b, *a, kVm, {"--tracker", "kvm-dirty-log", "--strategy", "hybrid"});
    if (HasFailure()) return;
    expect_only_at(host_a, *a, host_b, "");
    result = libvirt({"enable", kVm, "--undo", "--yes"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(host_a.virsh_text({"dumpxml", "--inactive", kVm}),
                ::testing::Not(HasSubstr("LD_PRELOAD")));
}

TEST_F(LibvirtCommand, UnderstandsVirshsWordsForAMigration) {
    ASSERT_NO_FATAL_FAILURE(start());
    const CommandResult moved = a->cli({"migrate", kVm, "--to", b->address(), "--live",
                                        "--postcopy", "--timeout", "60", "--bandwidth", "200"});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    const json report = a->cli_json({"report", kVm});
    EXPECT_EQ(report["strategy"], "hybrid");
    EXPECT_EQ(report["bandwidth_bytes_per_s"], uint64_t{200} << 20);
    expect_only_at(host_b, *b, host_a, "shut off");
}

TEST_F(LibvirtCommand, FailsWithLibvirtsWordsWhereTheDestinationRejectsTheXml) {
    const std::string lan = host_a.write_xml(
        "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>");
    ASSERT_EQ(host_a.virsh({"net-define", lan}).exit_code, 0);
    ASSERT_EQ(host_a.virsh({"net-start", "lan"}).exit_code, 0);
    DomainOptions domain;
    domain.devices = "<interface type='network'><source network='lan'/></interface>";
    ASSERT_NO_FATAL_FAILURE(start(domain));
    const CommandResult refused = migrate(*a, b->address());
    EXPECT_EQ(refused.exit_code, 1) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("no network with matching name 'lan'"));
    expect_only_at(host_a, *a, host_b, "");
}

}  // namespace
}  // namespace godwit::testing
