#include "engine/guest/vm_file/vm_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace godwit {
namespace {

absl::StatusOr<v1::VmSpec> parse(const std::string& text) {
    return parse_vm_file(text, "/vms/demo.yaml");
}

TEST(VmFile, NameAndMemoryAreEnough) {
    const auto spec = parse("name: demo\nmemory: 64M\n");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->name(), "demo");
    EXPECT_EQ(spec->memory_bytes(), 64U << 20);
    EXPECT_EQ(spec->vcpus(), 1U);
    EXPECT_EQ(spec->accel(), v1::ACCEL_AUTO);
    EXPECT_EQ(spec->machine(), "q35");
    EXPECT_EQ(spec->memory_backing(), v1::MEMORY_BACKING_THP);
    EXPECT_FALSE(spec->balloon());
    EXPECT_EQ(spec->disks_size() + spec->nics_size() + spec->numa_size(), 0);
    EXPECT_FALSE(spec->has_hotplug());
}

TEST(VmFile, EveryFieldIsRead) {
    const auto spec = parse(R"(
name: demo
uuid: 01234567-89ab-cdef-0123-456789abcdef
memory: 1GiB
memory_backing: hugetlb-2M   # a comment
vcpus: 2
accel: tcg
machine: pc-q35-7.2
cpu: max,phys-bits=42
kernel: guest.elf
initrd: ../initrd.img
firmware: /usr/share/fw.bin
append: "ws=256M rate=20000"
disks:
  - {path: disk.qcow2}
  - {path: /dev/vdb, format: raw, cache: writeback, readonly: true}
nics: [{bridge: br0, mac: "52:54:00:00:00:01"}, user, {user: true}]
numa: [{memory: 512M, vcpus: [1]}, {memory: 512M, vcpus: [0]}]
hotplug: {slots: 4, max_memory: 4GiB}
balloon: true
)");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->kernel(), "/vms/guest.elf");
    EXPECT_EQ(spec->initrd(), "/initrd.img");
    EXPECT_EQ(spec->firmware(), "/usr/share/fw.bin");
    EXPECT_EQ(spec->append(), "ws=256M rate=20000");
    EXPECT_EQ(spec->cpu(), "max,phys-bits=42");
    EXPECT_EQ(spec->accel(), v1::ACCEL_TCG);
    EXPECT_EQ(spec->memory_backing(), v1::MEMORY_BACKING_HUGETLB_2M);
    ASSERT_EQ(spec->disks_size(), 2);
    EXPECT_EQ(spec->disks(0).path(), "/vms/disk.qcow2");
    EXPECT_EQ(spec->disks(0).format(), "qcow2");
    EXPECT_EQ(spec->disks(0).cache(), v1::DISK_CACHE_NONE);
    EXPECT_EQ(spec->disks(1).cache(), v1::DISK_CACHE_WRITEBACK);
    EXPECT_TRUE(spec->disks(1).readonly());
    ASSERT_EQ(spec->nics_size(), 3);
    EXPECT_EQ(spec->nics(0).bridge(), "br0");
    EXPECT_EQ(spec->nics(1).bridge(), "");
    EXPECT_EQ(spec->numa(1).memory_bytes(), 512U << 20);
    EXPECT_EQ(spec->numa(1).vcpus(0), 0U);
    EXPECT_EQ(spec->hotplug().slots(), 4U);
    EXPECT_TRUE(spec->balloon());
}

struct BadFile {
    const char* what;
    const char* text;
    const char* error;  // how the message begins
};

void PrintTo(const BadFile& file, std::ostream* out) { *out << file.what; }

class BadVmFile : public testing::TestWithParam<BadFile> {};

TEST_P(BadVmFile, IsRefusedWithItsLineAndField) {
    const auto spec = parse(GetParam().text);
    ASSERT_FALSE(spec.ok());
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(spec.status().message());
    EXPECT_EQ(message.rfind(std::string("/vms/demo.yaml:") + GetParam().error, 0), 0U) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadVmFile,
    testing::Values(
        BadFile{"empty", "", "1: is no mapping"},
        BadFile{"a list", "- a\n- b\n", "1: is no mapping"},
        BadFile{"no YAML", "name: demo\nmemory: [1\n", "3: "},
        BadFile{"tab", "name: demo\n\tmemory: 1G\n", "2: "},
        BadFile{"no name", "memory: 1G\n", "1: name: is missing"},
        BadFile{"no memory", "name: demo\n", "1: memory: is missing"},
        BadFile{"unknown key", "name: demo\nmemroy: 1G\n",
                "2: memroy: unknown key; did you mean \"memory\"?"},
        BadFile{"unknown key without a neighbour", "name: demo\nmemory: 1G\nxyzzyxyzzy: 1\n",
                "3: xyzzyxyzzy: unknown key; known are name, "},
        BadFile{"repeated key", "name: demo\nmemory: 1G\nname: other\n", "3: name: is there twice"},
        BadFile{"name with a slash", "name: a/b\nmemory: 1G\n", "1: name: \"a/b\" is no VM name"},
        BadFile{"name with a comma", "name: \"a,b\"\nmemory: 1G\n", "1: name: "},
        BadFile{"size", "name: demo\nmemory: 1X\n", "2: memory: \"1X\" is no size"},
        BadFile{"odd size", "name: demo\n\nmemory: 3M\n",
                "3: memory: 3145728 bytes are no multiple"},
        BadFile{"memory is a list", "name: demo\nmemory: [1]\n", "2: memory: is no text"},
        BadFile{"vcpus 0", "name: demo\nmemory: 1G\nvcpus: 0\n", "3: vcpus: 0 is not within"},
        BadFile{"vcpus 256", "name: demo\nmemory: 1G\nvcpus: 256\n", "3: vcpus: 256 is not within"},
        BadFile{"vcpus no number", "name: demo\nmemory: 1G\nvcpus: two\n", "3: vcpus: \"two\""},
        BadFile{"vcpus negative", "name: demo\nmemory: 1G\nvcpus: -1\n", "3: vcpus: \"-1\""},
        BadFile{"accel", "name: demo\nmemory: 1G\naccel: xen\n",
                "3: accel: \"xen\" is none of auto, kvm, tcg"},
        BadFile{"backing", "name: demo\nmemory: 1G\nmemory_backing: 1G\n",
                "3: memory_backing: \"1G\" is none of thp, 4k, hugetlb-2M"},
        BadFile{"machine with options", "name: demo\nmemory: 1G\nmachine: q35,accel=xen\n",
                "3: machine: "},
        BadFile{"uuid", "name: demo\nmemory: 1G\nuuid: 1234\n", "3: uuid: \"1234\" is no UUID"},
        BadFile{"balloon", "name: demo\nmemory: 1G\nballoon: maybe\n", "3: balloon: \"maybe\""},
        BadFile{"append without kernel", "name: demo\nmemory: 1G\nappend: x\n",
                "3: append: needs a kernel"},
        BadFile{"disks no list", "name: demo\nmemory: 1G\ndisks: a.raw\n", "3: disks: is no list"},
        BadFile{"disk no mapping", "name: demo\nmemory: 1G\ndisks: [a.raw]\n",
                "3: disks[0]: is no mapping"},
        BadFile{"disk without path", "name: demo\nmemory: 1G\ndisks:\n  - {format: raw}\n",
                "4: disks[0].path: is empty"},
        BadFile{"second disk's cache",
                "name: demo\nmemory: 1G\ndisks:\n  - path: a\n  - path: b\n    cache: maybe\n",
                "6: disks[1].cache: \"maybe\" is none of none, writeback"},
        BadFile{"disk format", "name: demo\nmemory: 1G\ndisks: [{path: a, format: \"raw,x=y\"}]\n",
                "3: disks[0].format: "},
        BadFile{"disk key", "name: demo\nmemory: 1G\ndisks: [{path: a, read_only: true}]\n",
                "3: disks[0].read_only: unknown key; did you mean \"readonly\"?"},
        BadFile{"mac", "name: demo\nmemory: 1G\nnics:\n- bridge: br0\n  mac: 52:54:00\n",
                "5: nics[0].mac: \"52:54:00\" is no MAC"},
        BadFile{"multicast mac",
                "name: demo\nmemory: 1G\nnics: [{bridge: br0, mac: \"53:54:00:00:00:01\"}]\n",
                "3: nics[0].mac: \"53:54:00:00:00:01\" is a multicast"},
        BadFile{"nic word", "name: demo\nmemory: 1G\nnics: [tap]\n",
                "3: nics[0]: \"tap\" is neither"},
        BadFile{"nic of no kind", "name: demo\nmemory: 1G\nnics: [{}]\n",
                "3: nics[0]: needs one of"},
        BadFile{"nic of both kinds", "name: demo\nmemory: 1G\nnics: [{user: true, bridge: br0}]\n",
                "3: nics[0]: needs one of"},
        BadFile{"bridge", "name: demo\nmemory: 1G\nnics: [{bridge: a/b}]\n", "3: nics[0].bridge: "},
        BadFile{"numa too small", "name: demo\nmemory: 1G\nnuma: [{memory: 512M, vcpus: [0]}]\n",
                "3: numa: the nodes have 512.00 MiB less"},
        BadFile{"numa too large", "name: demo\nmemory: 1G\nnuma: [{memory: 2G, vcpus: [0]}]\n",
                "3: numa: the nodes have more"},
        BadFile{"numa without vcpu",
                "name: demo\nmemory: 1G\nvcpus: 2\nnuma: [{memory: 1G, vcpus: "
                "[0]}]\n",
                "4: numa: 1 of 2 vCPUs"},
        BadFile{"numa vcpu twice", "name: demo\nmemory: 1G\nnuma: [{memory: 1G, vcpus: [0, 0]}]\n",
                "3: numa[0].vcpus: vCPU 0 is named twice"},
        BadFile{"numa vcpu none", "name: demo\nmemory: 1G\nnuma: [{memory: 1G, vcpus: [7]}]\n",
                "3: numa[0].vcpus: there is no vCPU 7"},
        BadFile{"numa vcpu word", "name: demo\nmemory: 1G\nnuma: [{memory: 1G, vcpus: [a]}]\n",
                "3: numa[0].vcpus: \"a\" is no number"},
        BadFile{"hotplug slots", "name: demo\nmemory: 1G\nhotplug: {max_memory: 2G}\n",
                "3: hotplug.slots: 0 is not within"},
        BadFile{"hotplug memory", "name: demo\nmemory: 1G\nhotplug: {slots: 1, max_memory: 1G}\n",
                "3: hotplug.max_memory: "},
        BadFile{"newline in a path", "name: demo\nmemory: 1G\nkernel: \"a\\nb\"\n",
                "3: kernel: has a control character"},
        BadFile{"comma in an initrd", "name: demo\nmemory: 1G\nkernel: k\ninitrd: \"a,b\"\n",
                "4: initrd: has a comma"}));

TEST(VmFile, AMissingFileIsNotFound) {
    EXPECT_EQ(read_vm_file("/nonexistent/vm.yaml").status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(read_vm_file("/").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(VmFile, ARelativePathOfTheFileIsTakenFromTheWorkingDirectory) {
    const auto spec = parse_vm_file("name: a\nmemory: 2M\nkernel: k.elf\n", "demo.yaml");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->kernel(), (std::filesystem::current_path() / "k.elf").string());
}

TEST(VmFile, IsReadFromDisk) {
    std::string directory = "/tmp/godwit-vm-file-XXXXXX";
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    std::ofstream(directory + "/vm.yaml") << "name: demo\nmemory: 2M\nkernel: k.elf\n";
    const auto spec = read_vm_file(directory + "/vm.yaml");
    std::filesystem::remove_all(directory);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->kernel(), directory + "/k.elf");
}

}  // namespace
}  // namespace godwit
