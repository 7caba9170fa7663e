#include "engine/guest/disks/disk_identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace godwit {
namespace {

namespace fs = std::filesystem;

// On tmpfs, which every machine has.
class DiskIds : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = "/dev/shm/gw-disks-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        root_ = pattern;
        write("a", "one image");
    }
    void TearDown() override { fs::remove_all(root_); }
    [[nodiscard]] std::string path(const std::string& name) const { return root_ + "/" + name; }
    void write(const std::string& name, const std::string& text) const {
        fs::create_directories(fs::path(path(name)).parent_path());
        std::ofstream(path(name)) << text;
    }
    [[nodiscard]] DiskIdentity of(const std::string& name) const {
        return disk_identity(path(name), this_host());
    }
    // As sysfs has it of a device of that number, by a link; returns the device's directory.
    [[nodiscard]] std::string add_device(const std::string& number,
                                         const std::string& place) const {
        fs::create_directories(path("sys/devices/" + place));
        fs::create_directories(path("sys/dev/block"));
        fs::create_directory_symlink("../../devices/" + place, path("sys/dev/block/" + number));
        return "sys/devices/" + place;
    }
    [[nodiscard]] DiskIdentity device(unsigned int minor) const {
        return device_identity(8, minor, path("sys"));
    }

  private:
    std::string root_;
};

TEST_F(DiskIds, OfAFileIsTheSameByWhateverNameAndWhateverIsWrittenToIt) {
    const DiskIdentity before = of("a");
    EXPECT_NE(before.id, "");
    write("a", "another guest's data, and longer");
    fs::create_hard_link(path("a"), path("b"));
    fs::create_symlink("b", path("c"));
    EXPECT_EQ(of("a").id, before.id);
    EXPECT_EQ(of("c").id, before.id);
    fs::rename(path("a"), path("d"));
    EXPECT_EQ(of("d").id, before.id);
    EXPECT_EQ(of("d").kind, before.kind);
}

TEST_F(DiskIds, OfTwoFilesDifferThoughTheirContentsAreEqual) {
    fs::copy_file(path("a"), path("b"));
    EXPECT_NE(of("a").id, of("b").id);
    EXPECT_EQ(of("a").kind, of("b").kind);
}

// As of two hosts that were installed from one image.
TEST_F(DiskIds, OfOneInodeAtTwoHostsDiffer) {
    const DiskIdentity here = disk_identity(path("a"), {.boot_id = "one"});
    const DiskIdentity there = disk_identity(path("a"), {.boot_id = "two"});
    EXPECT_NE(here.id, there.id);
    EXPECT_EQ(here.kind, there.kind);
    EXPECT_EQ(disk_identity(path("a"), {}).id, "") << "no host is known";
}

TEST_F(DiskIds, HaveNoIdWhereNothingTellsOneDiskFromAnother) {
    fs::create_directory(path("directory"));
    for (const std::string& nothing : {std::string(), path("directory"), path("nowhere"),
                                       std::string("/dev/null"), std::string("/proc/self/maps")}) {
        const DiskIdentity identity = disk_identity(nothing, this_host());
        EXPECT_EQ(identity.id, "") << nothing;
        EXPECT_NE(identity.kind, "") << nothing;
    }
    EXPECT_EQ(disk_identity("", this_host()).kind, "network storage");
}

TEST_F(DiskIds, OfADeviceIsWhatTheDeviceSaysOfItself) {
    write(add_device("8:0", "sda") + "/device/wwid", "naa.600508b1001c \n");
    write(add_device("8:16", "nvme0n1") + "/wwid", "eui.0025385b11b0\n");
    EXPECT_EQ(device(0).id, "naa.600508b1001c");
    EXPECT_EQ(device(0).kind, "a device with a naa id");
    EXPECT_EQ(device(16).id, "eui.0025385b11b0");
    EXPECT_EQ(device(16).kind, "a device with a eui id");
}

TEST_F(DiskIds, OfAPartitionIsItsDevicesAndItsNumber) {
    write(add_device("8:0", "sda") + "/device/wwid", "naa.5000\n");
    for (const char* number : {"1", "2"})
        write(
            add_device(std::string("8:") + number, std::string("sda/sda") + number) + "/partition",
            number);
    EXPECT_EQ(device(1).id, "naa.5000 partition 1");
    EXPECT_EQ(device(2).id, "naa.5000 partition 2");
    EXPECT_NE(device(1).kind, device(0).kind);
}

TEST_F(DiskIds, OfMapsAreThoseOfVolumesAndPathsAlone) {
    write(add_device("8:0", "dm-0") + "/dm/uuid", "LVM-mCeYq3\n");
    write(add_device("8:1", "dm-1") + "/dm/uuid", "mpath-3600508\n");
    write(add_device("8:2", "dm-2") + "/dm/uuid", "CRYPT-LUKS2-11-name-of-this-host\n");
    EXPECT_EQ(device(0).id, "LVM-mCeYq3");
    EXPECT_EQ(device(1).id, "mpath-3600508");
    EXPECT_NE(device(0).kind, device(1).kind);
    EXPECT_EQ(device(2).id, "");
}

TEST_F(DiskIds, OfADeviceThatSaysNothingOrNonsenseHaveNoId) {
    static_cast<void>(add_device("8:0", "vda"));
    for (const char* nonsense : {"", "   ", "naa.", ".5000", "na\x01.5000", "plain"}) {
        write("sys/devices/vda/wwid", nonsense);
        EXPECT_EQ(device(0).id, "") << nonsense;
    }
    EXPECT_EQ(device(7).kind, "a device that sysfs does not have");
}

}  // namespace
}  // namespace godwit
