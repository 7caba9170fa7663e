#include "engine/guest/vm_file/validate_spec.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

v1::VmSpec good_spec() {
    v1::VmSpec spec;
    spec.set_name("demo");
    spec.set_memory_bytes(64 << 20);
    return spec;
}

TEST(ValidateSpec, AMinimalSpecIsGood) { EXPECT_TRUE(validate_spec(good_spec()).ok()); }

TEST(ValidateSpec, NamesCannotLeaveTheirDirectoryOrTheirOption) {
    for (const char* name : {"a", "A-1_b.c", "0"}) EXPECT_TRUE(is_vm_name(name)) << name;
    for (const char* name : {"", ".", "..", "-a", "a/b", "a b", "a,b", "a\nb", "é"})
        EXPECT_FALSE(is_vm_name(name)) << name;
    EXPECT_TRUE(is_vm_name(std::string(64, 'a')));
    EXPECT_FALSE(is_vm_name(std::string(65, 'a')));
}

TEST(ValidateSpec, APeersPathsAreAbsoluteAndOfOneLine) {
    v1::VmSpec spec = good_spec();
    spec.set_kernel("guest.elf");
    EXPECT_EQ(validate_spec(spec).message(), "kernel: \"guest.elf\" is no absolute path");
    spec.set_kernel("/guest\n-snapshot");
    EXPECT_FALSE(validate_spec(spec).ok());
    spec.set_kernel("/guest,with,commas");
    EXPECT_TRUE(validate_spec(spec).ok());
    spec.add_disks()->set_path(std::string("/a\0b", 4));
    EXPECT_EQ(find_spec_fault(spec)->field, "disks[0].path");
}

TEST(ValidateSpec, EnumsOfALaterVersionAreRefused) {
    v1::VmSpec spec = good_spec();
    spec.set_accel(static_cast<v1::Accel>(17));
    EXPECT_EQ(find_spec_fault(spec)->field, "accel");
    spec = good_spec();
    spec.set_memory_backing(static_cast<v1::MemoryBacking>(17));
    EXPECT_EQ(find_spec_fault(spec)->field, "memory_backing");
    spec = good_spec();
    spec.add_disks()->set_path("/a");
    spec.mutable_disks(0)->set_cache(static_cast<v1::DiskCache>(17));
    EXPECT_EQ(find_spec_fault(spec)->field, "disks[0].cache");
}

TEST(ValidateSpec, EveryCountHasALimit) {
    v1::VmSpec spec = good_spec();
    for (int i = 0; i <= kMaxDisks; ++i) spec.add_disks()->set_path("/a");
    EXPECT_EQ(find_spec_fault(spec)->field, "disks");
    spec = good_spec();
    for (int i = 0; i <= kMaxNics; ++i) spec.add_nics();
    EXPECT_EQ(find_spec_fault(spec)->field, "nics");
    spec = good_spec();
    for (int i = 0; i <= kMaxNumaNodes; ++i) spec.add_numa();
    EXPECT_EQ(find_spec_fault(spec)->field, "numa");
    spec = good_spec();
    spec.set_memory_bytes(kMaxMemoryBytes + kChunkBytes);
    EXPECT_EQ(find_spec_fault(spec)->field, "memory");
}

TEST(ValidateSpec, NumaSizesThatOverflowAreRefused) {
    v1::VmSpec spec = good_spec();
    spec.add_numa()->set_memory_bytes(~uint64_t{0} - kChunkBytes + 1);
    spec.add_numa()->set_memory_bytes((64 << 20) + kChunkBytes);
    EXPECT_EQ(find_spec_fault(spec)->field, "numa");
}

}  // namespace
}  // namespace godwit
