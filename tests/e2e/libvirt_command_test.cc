// godwit libvirt check and enable, virsh's words, and destinations that have no place for a domain.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

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

// libvirt keeps an alias in a definition if it begins with "ua-".
TEST_F(LibvirtCommand, NamesEachDeviceThatCannotBeMovedByItsAlias) {
    DomainOptions domain;
    domain.devices =
        "<hostdev mode='subsystem' type='pci'><source>"
        "<address domain='0x0000' bus='0x06' slot='0x02' function='0x0'/></source>"
        "<alias name='ua-card'/></hostdev>"
        "<interface type='vhostuser'><mac address='52:54:00:77:00:09'/>"
        "<source type='unix' path='/run/switch.sock' mode='client'/><model type='virtio'/>"
        "<alias name='ua-switch'/></interface>"
        "<tpm model='tpm-tis'><backend type='passthrough'/><alias name='ua-tpm'/></tpm>"
        "<vsock model='virtio'><cid auto='yes'/><alias name='ua-vsock'/></vsock>"
        "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/>"
        "<alias name='ua-srv'/></filesystem>";
    const CommandResult defined = host_a.virsh({"define", host_a.write_xml(domain_xml(domain))});
    ASSERT_EQ(defined.exit_code, 0) << defined.err;
    const CommandResult result = libvirt({"check", kVm, "--json"});
    EXPECT_EQ(result.exit_code, 3) << result.err;
    const std::string problems = json_of(result)["problems"].dump();
    for (const char* start : {"\"ua-card: a device of this host", "\"ua-switch: vhost-user",
                              "\"ua-tpm: a TPM's state", "\"ua-vsock: ", "\"ua-srv: "})
        EXPECT_THAT(problems, HasSubstr(start));
}

// The drive of another process, which has the guest's memory mapped.
TEST_F(LibvirtCommand, RefusesARunningDomainsVhostUserDiskByItsAlias) {
    const std::string image = make_guest_disk(*a, "16M");
    const std::string socket = a->state_dir() + "/vhost-user.sock";
    BackgroundCommand server(
        {"qemu-storage-daemon", "--blockdev", "driver=file,node-name=image,filename=" + image,
         "--export",
         "type=vhost-user-blk,id=drive,node-name=image,writable=on,addr.type=unix,"
         "addr.path=" +
             socket});
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] {
        return std::filesystem::is_socket(socket) || server.wait(Duration::zero());
    }));
    ASSERT_FALSE(server.wait(Duration::zero())) << server.result().err;
    DomainOptions domain;
    domain.devices = fmt::format(
        "<disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/>"
        "<source type='unix' path='{}'/><target dev='vda' bus='virtio'/></disk>",
        socket);
    ASSERT_NO_FATAL_FAILURE(start(domain));
    const CommandResult refused = migrate(*a, b->address());
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("virtio-disk0: vhost-user"));
    expect_only_at(host_a, *a, host_b, "");
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
