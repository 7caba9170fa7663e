#include "engine/guest/libvirt/domain_xml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::string domain(const std::string& devices = "", const std::string& rest = "") {
    return "<domain type='kvm'><name>web</name><uuid>6f6b1d2e-0000-4000-8000-000000000001</uuid>"
           "<memory unit='KiB'>262144</memory><vcpu>2</vcpu><os><type machine='pc-q35-7.2'>hvm"
           "</type><kernel>/boot/k</kernel></os><devices>" +
           devices + "</devices>" + rest + "</domain>";
}

TEST(DomainXml, GivesTheSpecThatTheEngineAsksFor) {
    const auto spec = spec_of_domain(domain(
        "<disk type='file'><driver type='qcow2'/><source file='/d/web.qcow2'/></disk>"
        "<disk type='block'><source dev='/dev/vg/web'/><readonly/></disk><disk device='cdrom'/>"));
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->name(), "web");
    EXPECT_EQ(spec->uuid(), "6f6b1d2e-0000-4000-8000-000000000001");
    EXPECT_EQ(spec->memory_bytes(), uint64_t{256} << 20);
    EXPECT_EQ(spec->vcpus(), 2U);
    EXPECT_EQ(spec->accel(), v1::ACCEL_KVM);
    EXPECT_EQ(spec->kernel(), "/boot/k");
    EXPECT_TRUE(spec->no_resident());
    ASSERT_EQ(spec->disks_size(), 2);
    EXPECT_EQ(spec->disks(0).path(), "/d/web.qcow2");
    EXPECT_EQ(spec->disks(1).path(), "/dev/vg/web");
    EXPECT_TRUE(spec->disks(1).readonly());
}

TEST(DomainXml, TakesItsOwnArgumentsOutAgainAndLeavesThoseOfOthers) {
    const std::string others =
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-fw_cfg'/><qemu:arg value='defer'/></qemu:commandline>";
    for (const std::string& rest : {std::string(), others}) {
        const auto before = without_incoming(domain("", rest));
        const auto waiting = with_incoming(domain("", rest));
        ASSERT_TRUE(before.ok() && waiting.ok());
        EXPECT_THAT(*waiting, HasSubstr("<qemu:arg value='-incoming' />"));
        EXPECT_THAT(*waiting, HasSubstr("xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"));
        // Twice is once.
        EXPECT_EQ(*with_incoming(*waiting), *waiting);
        const auto after = without_incoming(*waiting);
        ASSERT_TRUE(after.ok());
        EXPECT_THAT(*after, Not(HasSubstr("-incoming")));
        EXPECT_EQ(after->find("-fw_cfg") != std::string::npos, !rest.empty());
        EXPECT_THAT(spec_of_domain(*waiting)->domain_xml(), Not(HasSubstr("-incoming")));
    }
}

TEST(DomainXml, NamesEachDeviceThatCannotBeMovedByItsAlias) {
    EXPECT_THAT(domain_problems(domain("<memballoon model='virtio'/>")), IsEmpty());
    EXPECT_THAT(domain_problems(domain("<hostdev><alias name='hostdev0'/></hostdev>")),
                ElementsAre(HasSubstr("hostdev0: ")));
    EXPECT_THAT(
        domain_problems(domain("<interface type='vhostuser'><alias name='net1'/></interface>"
                               "<interface type='bridge'/>")),
        ElementsAre(HasSubstr("net1: vhost-user")));
    EXPECT_THAT(
        domain_problems(domain("<filesystem><alias name='fs0'/></filesystem><tpm/><shmem/>")),
        ElementsAre(HasSubstr("fs0: "), HasSubstr("shmem: "), HasSubstr("tpm: ")));
    EXPECT_THAT(
        domain_problems(
            domain("<disk type='nvme'><alias name='virtio-disk0'/></disk><disk type='network'/>"
                   "<disk type='vhostuser'><alias name='virtio-disk1'/></disk>"
                   "<disk type='file'><transient/><alias name='virtio-disk2'/></disk>"
                   "<interface type='hostdev'><alias name='hostdev1'/></interface>"
                   "<interface type='vdpa'><alias name='net2'/></interface><vsock/>"
                   "<memory model='nvdimm'><alias name='nvdimm0'/></memory>"
                   "<memory model='dimm'><alias name='dimm0'/></memory>")),
        UnorderedElementsAre(HasSubstr("virtio-disk0: "), HasSubstr("virtio-disk1: "),
                             HasSubstr("virtio-disk2: <transient/>"), HasSubstr("hostdev1: "),
                             HasSubstr("net2: "), HasSubstr("vsock: "), HasSubstr("nvdimm0: ")));
    EXPECT_THAT(domain_problems(domain("", "<launchSecurity type='sev'/>")),
                ElementsAre(HasSubstr("launchSecurity")));
}

TEST(DomainXml, TellsWhatSomebodyChangesFromWhatTheGuestDoes) {
    const std::string before = domain(
        "<disk type='file'><source file='/d/web.qcow2'/><target dev='sda'/></disk>"
        "<channel type='unix'><target type='virtio' name='agent' state='disconnected'/></channel>",
        "<currentMemory unit='KiB'>262144</currentMemory>");
    const auto with = [&](const std::string& old, const std::string& fresh) {
        std::string text = before;
        const size_t at = text.find(old);
        EXPECT_NE(at, std::string::npos) << old;
        return fixed_parts_of(text.replace(at, old.size(), fresh));
    };
    const std::string same = fixed_parts_of(before);
    EXPECT_THAT(same, HasSubstr("/d/web.qcow2"));
    EXPECT_EQ(with("disconnected", "connected"), same);
    EXPECT_EQ(with("dev='sda'", "dev='sda' tray='open'"), same);
    EXPECT_EQ(with(">262144</currentMemory>", ">131072</currentMemory>"), same);
    EXPECT_EQ(fixed_parts_of(*with_incoming(before)), same);
    EXPECT_NE(with("/d/web.qcow2", "/d/web.snapshot"), same);
    EXPECT_NE(with("<channel", "<rng model='virtio'/><channel"), same);
    EXPECT_NE(with("<vcpu>2<", "<vcpu current='1'>2<"), same);
    EXPECT_EQ(fixed_parts_of("no XML"), "");
}

TEST(DomainXml, NamesDevicesThatGiveMemoryBack) {
    EXPECT_THAT(discarding_devices_of(domain("<memballoon model='none'/>")), IsEmpty());
    EXPECT_THAT(discarding_devices_of(
                    domain("<memballoon model='virtio'><alias name='balloon0'/></memballoon>")),
                ElementsAre("balloon0"));
}

TEST(DomainXml, RefusesMoreMemoryThanThereCanBe) {
    for (const char* kib : {"18014398509481984", "68719476737", "99999999999999999999999"})
        EXPECT_EQ(spec_of_domain("<domain><name>w</name><uuid>u</uuid><memory>" + std::string(kib) +
                                 "</memory></domain>")
                      .status()
                      .code(),
                  absl::StatusCode::kInvalidArgument)
            << kib;
}

TEST(DomainXml, RefusesElementsThatAreTooDeep) {
    // In the place that is taken out, and that recursion would walk through.
    const auto nested = [](size_t depth) {
        std::string inner;
        for (size_t i = 0; i < depth; ++i) inner += "<a>";
        for (size_t i = 0; i < depth; ++i) inner += "</a>";
        return domain("", "<qemu:commandline><qemu:arg value='-incoming'>" + inner +
                              "</qemu:arg><qemu:arg value='defer'/></qemu:commandline>");
    };
    EXPECT_TRUE(spec_of_domain(nested(50)).ok());
    for (const size_t depth : {200, 100'000}) {
        EXPECT_EQ(spec_of_domain(nested(depth)).status().code(),
                  absl::StatusCode::kInvalidArgument);
        EXPECT_FALSE(with_incoming(nested(depth)).ok());
        EXPECT_FALSE(without_incoming(nested(depth)).ok());
    }
}

TEST(DomainXml, RefusesWhatIsNoDomain) {
    const std::string deep(2 << 20, ' ');
    for (const std::string& text :
         {std::string(), std::string("<domain"), std::string("<network/>"),
          std::string("<domain/>"), "<domain>" + deep + "</domain>"})
        EXPECT_EQ(spec_of_domain(text).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(with_incoming("<network/>").ok());
    EXPECT_THAT(domain_problems("nonsense"), Not(IsEmpty()));
}

}  // namespace
}  // namespace godwit
