#include "bench/lab/libvirt_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

GuestConfig guest() {
    return {.memory = Bytes{512} << 20,
            .working_set = Bytes{64} << 20,
            .kvm = true,
            .cpu = "host,-arch-capabilities,phys-bits=42",
            .kernel = "/bin/guest.elf",
            .firmware = "/rom/q&boot"};
}

EngineName named(const char* text) { return *parse_engine(text); }

TEST(LibvirtWords, ADomainHasTheGuestsCpuMemoryAndCommandLine) {
    const std::string xml = lab_domain_xml("lab1", "/usr/bin/qemu", guest());
    EXPECT_THAT(xml, HasSubstr("<domain type='kvm'><name>lab1</name>"
                               "<memory unit='KiB'>524288</memory>"));
    EXPECT_THAT(xml, HasSubstr("<loader type='rom' readonly='yes'>/rom/q&amp;boot</loader>"));
    EXPECT_THAT(xml, HasSubstr("<cmdline>ws=65536K rate=0"));
    EXPECT_THAT(xml, HasSubstr("<cpu mode='host-passthrough'>"
                               "<feature policy='disable' name='arch-capabilities'/>"
                               "<maxphysaddr mode='emulate' bits='42'/></cpu>"));
    EXPECT_THAT(xml, HasSubstr("<emulator>/usr/bin/qemu</emulator>"));
    EXPECT_THAT(xml, Not(HasSubstr("memoryBacking"))) << "private memory is QEMU's best case";
}

TEST(LibvirtWords, AnEmulatedDomainHasAllThatTheEmulatorCan) {
    GuestConfig emulated = guest();
    emulated.kvm = false;
    emulated.cpu = "max";
    const std::string xml = lab_domain_xml("lab1", "/usr/bin/qemu", emulated);
    EXPECT_THAT(xml, HasSubstr("<domain type='qemu'>"));
    EXPECT_THAT(xml, HasSubstr("<cpu mode='maximum'></cpu>"));
}

TEST(LibvirtWords, EachModeHasItsFlags) {
    EXPECT_THAT(libvirt_migrate_flags(named("libvirt-precopy"), 0), ElementsAre("--live"));
    EXPECT_THAT(libvirt_migrate_flags(named("libvirt-auto-converge"), 0),
                ElementsAre("--live", "--auto-converge"));
    EngineName parallel = named("libvirt-parallel");
    parallel.channels = 4;
    EXPECT_THAT(libvirt_migrate_flags(parallel, 0),
                ElementsAre("--live", "--parallel", "--parallel-connections", "4"));
}

TEST(LibvirtWords, ALimitIsInMebibytesPerSecondAndBindsPostCopyToo) {
    EXPECT_THAT(libvirt_migrate_flags(named("libvirt-precopy"), Bytes{150} << 20),
                ElementsAre("--live", "--bandwidth", "150"));
    EXPECT_THAT(libvirt_migrate_flags(named("libvirt-precopy"), 1000),
                ElementsAre("--live", "--bandwidth", "1"));
    EXPECT_THAT(
        libvirt_migrate_flags(named("libvirt-postcopy"), Bytes{150} << 20),
        ElementsAre("--live", "--postcopy", "--bandwidth", "150", "--postcopy-bandwidth", "150"));
}

TEST(LibvirtWords, EventsAreThoseOfTheDomainAndWhole) {
    const std::vector<SeenEvent> events = parse_monitor_events(
        "event STOP at 1795751096.086632 for domain 'lab1': <null>\n"
        "event STOP at 1795751096.586632 for domain 'lab11': <null>\n"
        "event MIGRATION at 1795751096.611435 for domain 'lab1': {\"status\":\"completed\"}\n"
        "event MIGRATION_PASS at 1795751097.000001 for domain 'lab1': {\"pass\":5}\n"
        "nothing of the kind\n"
        "event RESUME at 1795751098.1",
        "lab1", Side::kDestination);
    ASSERT_EQ(events.size(), 3);
    EXPECT_EQ(events[0].name, "STOP");
    EXPECT_EQ(events[0].side, Side::kDestination);
    EXPECT_EQ(events[0].stamp.count(), 1795751096086632);
    EXPECT_EQ(events[1].status, "completed");
    EXPECT_EQ(events[2].pass, 5);
    EXPECT_NEAR(ms_between(events[0], events[1]), 524.803, 1e-6);
}

TEST(LibvirtWords, PrivateMemoryIsTheAnonymousMappingOfTheGuestsSize) {
    const std::string maps =
        "55d000000000-55d020000000 rw-p 00000000 00:00 0                          [heap]\n"
        "7f0000000000-7f0020000000 rw-p 00000000 08:01 77                         /some/file\n"
        "7f4c4fe00000-7f4c6fe00000 ---p 00000000 00:00 0 \n"
        "7f4c6fe00000-7f4c8fe00000 rw-p 00000000 00:00 0 \n"
        "7f4c9fe00000-7f4ca0000000 rw-p 00000000 00:00 0 \n";
    EXPECT_EQ(find_private_ram(maps, Bytes{512} << 20), 0x7f4c6fe00000);
    EXPECT_EQ(find_private_ram(maps, Bytes{513} << 20), std::nullopt);
    EXPECT_EQ(find_private_ram("", Bytes{512} << 20), std::nullopt);
}

TEST(LibvirtWords, RawStatisticsGetTheLabsNames) {
    EXPECT_THAT(
        libvirt_metrics("Job type: 3\n\noperation: 4\ntime_elapsed: 1185\ndowntime: 73\n"
                        "data_processed: 171781109\nmemory_iteration: 5\n"),
        UnorderedElementsAre(Pair("reported_total_ms", 1185), Pair("reported_downtime_ms", 73),
                             Pair("wire_bytes", 171781109), Pair("rounds", 5)));
}

}  // namespace
}  // namespace godwit
