#include "engine/guest/disks/same_disks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace godwit {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

DiskIdentities disks(const std::vector<std::array<std::string, 3>>& told) {
    DiskIdentities disks;
    for (const auto& [path, kind, id] : told) {
        v1::DiskIdentity& disk = *disks.Add();
        disk.set_path(path);
        disk.set_kind(kind);
        disk.set_id(id);
    }
    return disks;
}

TEST(SameDisks, AreThoseWithEqualIdsOfOneKind) {
    const DiskIdentities both = disks({{"/a", "a volume", "1"}, {"/b", "a file", "2"}});
    EXPECT_TRUE(check_same_disks(both, both).ok());
    EXPECT_THAT(unchecked_disks(both, both), IsEmpty());
}

TEST(SameDisks, AreRefusedWhereOneHasAnotherId) {
    const absl::Status status =
        check_same_disks(disks({{"/a", "a volume", "1"}, {"/b", "a file", "2"}}),
                         disks({{"/a", "a volume", "1"}, {"/b", "a file", "3"}}));
    EXPECT_TRUE(absl::IsFailedPrecondition(status));
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("disk /b is another one here"), HasSubstr("--unsafe")));
}

// A host that serves a file by NFS has it on a file system of its own.
TEST(SameDisks, OfTwoKindsOrWithoutIdsAreNeitherRefusedNorChecked) {
    const DiskIdentities source = disks(
        {{"/a", "a file of one host", "1"}, {"/b", "a bare device", ""}, {"", "network", ""}});
    const DiskIdentities here =
        disks({{"/a", "a file of many", "2"}, {"/b", "a bare device", ""}, {"", "network", ""}});
    EXPECT_TRUE(check_same_disks(source, here).ok());
    EXPECT_THAT(unchecked_disks(source, here),
                ElementsAre(AllOf(HasSubstr("/a"), HasSubstr("a file of one host here"),
                                  HasSubstr("something else there")),
                            AllOf(HasSubstr("/b"), HasSubstr("a bare device here, and there too")),
                            HasSubstr("without a path")));
}

TEST(SameDisks, AreUncheckedWhereADestinationSaysNothingOfThem) {
    const DiskIdentities source = disks({{"/a", "a volume", "1"}});
    EXPECT_TRUE(check_same_disks(source, {}).ok());
    EXPECT_THAT(unchecked_disks(source, {}),
                ElementsAre(HasSubstr("the other agent does not say")));
    EXPECT_TRUE(check_same_disks({}, source).ok()) << "--unsafe, or an older agent";
}

TEST(SameDisks, AreOnlyThoseThatTheGuestWrites) {
    v1::VmSpec spec;
    spec.add_disks()->set_path("/dev/null");
    v1::Disk& readonly = *spec.add_disks();
    readonly.set_path("/dev/zero");
    readonly.set_readonly(true);
    const auto told = identities_of(spec, this_host());
    ASSERT_TRUE(told.ok()) << told.status();
    ASSERT_EQ(told->size(), 1);
    EXPECT_EQ(told->at(0).path(), "/dev/null");
}

}  // namespace
}  // namespace godwit
