#include "engine/guest/libvirt/enable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/guest/libvirt/domain_xml.h"
#include "engine/guest/libvirt/xml_text.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string domain_with(const std::string& backing) {
    return "<domain type='kvm'><name>web</name><uuid>6f6b1d2e-0000-4000-8000-000000000001</uuid>"
           "<memory>262144</memory>" +
           backing + "</domain>";
}
std::string in_one_way(const std::string& xml) { return domain_text(*parse_domain(xml)); }

TEST(EnableMigration, MakesMemorySharedAndNamedAndTakesItselfBack) {
    for (const char* backing :
         {"", "<memoryBacking><nosharepages/></memoryBacking>",
          "<memoryBacking><hugepages/><source type='memfd'/></memoryBacking>"}) {
        const auto enabled = enable_migration(domain_with(backing));
        ASSERT_TRUE(enabled.ok());
        EXPECT_THAT(*enabled, HasSubstr("<source type='file' />"));
        EXPECT_THAT(*enabled, HasSubstr("<access mode='shared' />"));
        EXPECT_EQ(*enable_migration(*enabled), *enabled) << "twice is once";
        const auto back = disable_migration(*enabled);
        ASSERT_TRUE(back.ok());
        EXPECT_EQ(*back, in_one_way(domain_with(backing)));
    }
}

TEST(EnableResident, PreloadsItAndTakesItselfBack) {
    for (const char* rest :
         {"", "<qemu:commandline><qemu:arg value='-fw_cfg'/></qemu:commandline>"}) {
        const std::string before = domain_with(rest);
        const auto enabled = enable_resident(before, "/lib/libgodwit-resident.so");
        ASSERT_TRUE(enabled.ok()) << enabled.status();
        EXPECT_THAT(*enabled,
                    HasSubstr("<qemu:env name='LD_PRELOAD' value='/lib/libgodwit-resident.so' />"));
        EXPECT_EQ(resident_socket_of(*enabled),
                  "/run/godwit/resident/6f6b1d2e-0000-4000-8000-000000000001.sock");
        EXPECT_THAT(*enabled, HasSubstr("<access mode='shared' />"));
        EXPECT_EQ(*enable_resident(*enabled, "/lib/libgodwit-resident.so"), *enabled);
        const auto back = disable_migration(*enabled);
        ASSERT_TRUE(back.ok());
        EXPECT_EQ(resident_socket_of(*back), "");
        EXPECT_THAT(*back, Not(HasSubstr("LD_PRELOAD")));
        EXPECT_EQ(back->find("-fw_cfg") != std::string::npos, *rest != 0);
    }
}

TEST(EnableResident, LeavesWhatOthersPreload) {
    EXPECT_EQ(
        enable_resident(domain_with("<qemu:commandline><qemu:env name='LD_PRELOAD' value='/x'/>"
                                    "</qemu:commandline>"),
                        "/lib/libgodwit-resident.so")
            .status()
            .code(),
        absl::StatusCode::kFailedPrecondition);
}

TEST(EnableMigration, ChangesNothingWhereNothingIsMissing) {
    const std::string fit =
        domain_with("<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>");
    EXPECT_EQ(*enable_migration(fit), fit);
    EXPECT_EQ(disable_migration(fit).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(EnableMigration, ShowsTheDifferenceAndNoOther) {
    const std::string before = domain_with("");
    EXPECT_EQ(line_diff(before, in_one_way(before)), "");
    const std::string difference = line_diff(before, *enable_migration(before));
    EXPECT_THAT(difference, HasSubstr("+     <source type='file' />\n"));
    EXPECT_THAT(difference, Not(HasSubstr("\n- ")));
}

}  // namespace
}  // namespace godwit
