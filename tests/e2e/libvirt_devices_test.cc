// A domain with what production domains have: every device is there after the move, at the guest's
// end and at the host's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <pugixml.hpp>
#include <regex>
#include <sstream>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"
#include "tests/harness/moving.h"
#include "tests/harness/vnc_client.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kPassword = "s3cret";
constexpr const char* kLan =
    "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>";

bool is_kind(const std::string& path, mode_t kind) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IFMT) == kind;
}

class DomainWithDevices : public LibvirtPair {
  protected:
    void SetUp() override {
        LibvirtPair::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        for (LibvirtHost* host : {&host_a, &host_b}) {
            const std::string file = host->write_xml(kLan);
            ASSERT_EQ(host->virsh({"net-define", file}).exit_code, 0);
            const CommandResult started = host->virsh({"net-start", "lan"});
            ASSERT_EQ(started.exit_code, 0) << started.err;
        }
    }
    [[nodiscard]] DomainOptions domain() {
        DomainOptions options;
        options.usb = "qemu-xhci";
        options.append += " disk=on dma=1M diskrate=500";
        options.devices = fmt::format(
            "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:77:00:01'/>"
            "<model type='virtio'/></interface>"
            "<interface type='network'><source network='lan'/><mac address='52:54:00:77:00:02'/>"
            "<model type='e1000'/></interface>"
            "<interface type='ethernet'><target dev='gwtap0'/><mac address='52:54:00:77:00:03'/>"
            "<model type='virtio'/></interface>"
            "<disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{}'/>"
            "<target dev='vda' bus='virtio'/>"
            "<address type='pci' domain='0' bus='0' slot='0x10' function='0'/></disk>"
            "<console type='pty'><target type='virtio'/></console>"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='{}'/>"
            "<video><model type='vga'/></video>"
            "<input type='tablet' bus='usb'/>"
            "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
            make_guest_disk(*a, "16M"), kPassword);
        return options;
    }
    // The domain as virsh would send it to another host, without what each start gives it anew.
    static std::string lasting_xml(const LibvirtHost& host) {
        pugi::xml_document document;
        document.load_string(
            host.virsh_text({"dumpxml", "--migratable", "--security-info", kVm}).c_str());
        document.child("domain").remove_child("qemu:commandline");
        document.child("domain").remove_attribute("xmlns:qemu");
        document.child("domain").remove_attribute("id");
        std::ostringstream text;
        document.save(text);
        return std::regex_replace(
            text.str(), std::regex("vnet[0-9]+|/dev/pts/[0-9]+| portid=\"[^\"]*\"|domain-[0-9]+-"),
            "");
    }
    static std::string attribute(const LibvirtHost& host, const char* path, const char* name) {
        pugi::xml_document document;
        document.load_string(host.virsh_text({"dumpxml", kVm}).c_str());
        return document.select_node(path).node().attribute(name).value();
    }
    // Taps are on their bridges, sockets and terminals are where the XML says.
    static void expect_host_side(const LibvirtHost& host) {
        for (const char* mac : {"52:54:00:77:00:01", "52:54:00:77:00:02"}) {
            const std::string tap = attribute(
                host, fmt::format("//interface[mac/@address='{}']/target", mac).c_str(), "dev");
            EXPECT_THAT(host.run({"ip", "link", "show", "dev", tap}).out,
                        ::testing::AllOf(HasSubstr("master br0"), HasSubstr("LOWER_UP")))
                << mac << " is " << tap;
        }
        EXPECT_THAT(host.run({"ip", "link", "show", "dev", "gwtap0"}).out, HasSubstr("gwtap0"));
        for (const char* path : {"//serial/source", "//console[target/@type='virtio']/source"})
            EXPECT_TRUE(is_kind(attribute(host, path, "path"), S_IFCHR)) << path;
        const std::string channel = attribute(host, "//channel/source", "path");
        EXPECT_TRUE(is_kind(host.path_inside(channel), S_IFSOCK)) << channel;
    }
    static void expect_password(const LibvirtHost& host) {
        const std::vector<pid_t> pids = host.qemu_pids();
        ASSERT_EQ(pids.size(), 1U);
        const auto port = static_cast<uint16_t>(std::stoi(attribute(host, "//graphics", "port")));
        EXPECT_EQ(try_vnc(pids[0], port, kPassword), VncAnswer::kAccepted);
        EXPECT_EQ(try_vnc(pids[0], port, "another"), VncAnswer::kRefused);
    }
};

TEST_F(DomainWithDevices, HasThemAllAfterThereAndBack) {
    ASSERT_NO_FATAL_FAILURE(start(domain()));
    ::setenv("GODWIT_TEST_TRACKER", "uffd-wp", 1);  // NOLINT(concurrency-mt-unsafe): one thread
    const std::string before = lasting_xml(host_a);
    expect_host_side(host_a);
    expect_password(host_a);
    move_guest(*a, *b, kVm);
    if (HasFailure()) return;
    EXPECT_EQ(lasting_xml(host_b), before);
    expect_host_side(host_b);
    expect_password(host_b);
    EXPECT_NE(host_a.run({"ip", "link", "show", "dev", "gwtap0"}).exit_code, 0)
        << "the source keeps a tap";
    const uint64_t reads = testimony(*b, kVm).disk_reads;
    EXPECT_TRUE(eventually(std::chrono::seconds(20),
                           [&] { return testimony(*b, kVm).disk_reads > reads + 100; }));
    expect_alive_and_well(*b, kVm);
    move_guest(*b, *a, kVm, {"--strategy", "postcopy"});
    if (HasFailure()) return;
    EXPECT_EQ(lasting_xml(host_a), before);
    expect_host_side(host_a);
    expect_password(host_a);
    expect_alive_and_well(*a, kVm);
}

}  // namespace
}  // namespace godwit::testing
