#include "engine/guest/qemu/ram_mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/guest/qemu/kvm_probe.h"
#include "test_vms.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// The line of /proc/mounts for a directory.
std::string mount_line(const std::string& directory) {
    std::ifstream in("/proc/mounts");
    for (std::string line; std::getline(in, line);)
        if (line.find(" " + directory + " ") != std::string::npos) return line;
    return "";
}

class RamMountsTest : public testing::Test {
  protected:
    void SetUp() override { GODWIT_NEED_ROOT_AND(v1::ACCEL_TCG); }
    StateDir state_;
    RamMounts mounts_{state_.path()};
};

TEST_F(RamMountsTest, EachBackingHasItsOwnMount) {
    const std::string huge = mounts_.file_path(v1::MEMORY_BACKING_THP, "a");
    const std::string small = mounts_.file_path(v1::MEMORY_BACKING_4K, "a");
    ASSERT_TRUE(mounts_.create_file(v1::MEMORY_BACKING_THP, huge, kChunkBytes).ok());
    ASSERT_TRUE(mounts_.create_file(v1::MEMORY_BACKING_4K, small, kChunkBytes).ok());
    EXPECT_THAT(mount_line(state_.path() + "/ram-thp"), HasSubstr("huge=always"));
    EXPECT_THAT(mount_line(state_.path() + "/ram-4k"), Not(IsEmpty()));
    EXPECT_THAT(mount_line(state_.path() + "/ram-4k"), Not(HasSubstr("huge=always")));
}

TEST_F(RamMountsTest, AFileMayBeLargerThanTheHost) {
    const std::string path = mounts_.file_path(v1::MEMORY_BACKING_THP, "big");
    ASSERT_TRUE(mounts_.create_file(v1::MEMORY_BACKING_THP, path, Bytes{4} << 40).ok());
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(static_cast<Bytes>(info.st_size), Bytes{4} << 40);
    EXPECT_EQ(info.st_blocks, 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(RamMountsTest, AMountIsReusedAndKeptWhileItHoldsAFile) {
    const std::string path = mounts_.file_path(v1::MEMORY_BACKING_THP, "a");
    ASSERT_TRUE(mounts_.create_file(v1::MEMORY_BACKING_THP, path, kChunkBytes).ok());
    RamMounts restarted(state_.path());
    const std::string second = restarted.file_path(v1::MEMORY_BACKING_THP, "b");
    ASSERT_TRUE(restarted.create_file(v1::MEMORY_BACKING_THP, second, kChunkBytes).ok());
    EXPECT_TRUE(std::filesystem::exists(path));
    EXPECT_EQ(restarted.create_file(v1::MEMORY_BACKING_THP, path, kChunkBytes).code(),
              absl::StatusCode::kAlreadyExists);
    restarted.release_unused();
    EXPECT_TRUE(std::filesystem::exists(path));
    ::unlink(path.c_str());
    {
        const UniqueFd held(::open(second.c_str(), O_RDWR | O_CLOEXEC));
        ::unlink(second.c_str());
        restarted.release_unused();  // a drain still reads the file
        EXPECT_THAT(mount_line(state_.path() + "/ram-thp"), Not(IsEmpty()));
    }
    restarted.release_unused();
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(RamMountsTest, HugePagesBackAVmAndGoBackToTheHost) {
    const ReservedHugePages reserved(32);
    if (!reserved.enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    QemuHypervisor hypervisor({.state_dir = state_.path()});
    v1::VmSpec spec = bios_guest("demo");
    spec.set_memory_backing(v1::MEMORY_BACKING_HUGETLB_2M);
    for (const StartMode mode : {StartMode::kRun, StartMode::kIncoming}) {
        const auto vm = hypervisor.start(spec, mode);
        ASSERT_TRUE(vm.ok()) << vm.status();
        EXPECT_EQ((*vm)->ram_blocks()[0].backing, Backing::kHugetlb2M);
        EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
    }
    EXPECT_TRUE(check_free_huge_pages(64 << 20).ok());
    hypervisor.release_unused_mounts();
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(RamMountsTest, PunchingMakesTheFileAHole) {
    const std::string path = mounts_.file_path(v1::MEMORY_BACKING_THP, "a");
    ASSERT_TRUE(mounts_.create_file(v1::MEMORY_BACKING_THP, path, 4 * kChunkBytes).ok());
    const auto block = open_ram_block("ram0", path, Backing::kTmpfsHuge);
    ASSERT_TRUE(block.ok());
    ASSERT_TRUE(write_fully(block->file.get(), "x", 1, kChunkBytes + 5).ok());
    ASSERT_TRUE(punch_all(*block).ok());
    struct stat info {};
    ASSERT_EQ(::fstat(block->file.get(), &info), 0);
    EXPECT_EQ(info.st_blocks, 0);
    EXPECT_EQ(static_cast<Bytes>(info.st_size), 4 * kChunkBytes);
}

}  // namespace
}  // namespace godwit
