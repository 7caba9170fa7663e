#include "engine/guest/qemu/qemu_argv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::VmSpec resolved_spec() {
    v1::VmSpec spec;
    spec.set_name("demo");
    spec.set_uuid("01234567-89ab-cdef-0123-456789abcdef");
    spec.set_memory_bytes(Bytes{1} << 30);
    spec.set_vcpus(2);
    spec.set_accel(v1::ACCEL_KVM);
    spec.set_machine("pc-q35-7.2");
    spec.set_cpu("host");
    return spec;
}

QemuArgvInputs inputs() {
    return {.program = "/usr/bin/qemu",
            .serial_log = "/s/vms/demo/serial.log",
            .qmp_fd = 7,
            .guard_fd = 8,
            .ram_files = {"/s/ram-thp/demo-00000001-ram0"}};
}

// Every value of an option, in order.
std::vector<std::string> values(const std::vector<std::string>& argv, const std::string& option) {
    std::vector<std::string> found;
    for (size_t i = 0; i + 1 < argv.size(); ++i)
        if (argv[i] == option) found.push_back(argv[i + 1]);
    return found;
}

bool has(const std::vector<std::string>& argv, const std::string& option) {
    return std::find(argv.begin(), argv.end(), option) != argv.end();
}

TEST(QemuArgv, APlainVm) {
    const auto argv = render_qemu_argv(resolved_spec(), inputs());
    EXPECT_EQ(argv.front(), "/usr/bin/qemu");
    EXPECT_THAT(values(argv, "-name"), ElementsAre("guest=demo,debug-threads=on"));
    EXPECT_THAT(values(argv, "-uuid"), ElementsAre("01234567-89ab-cdef-0123-456789abcdef"));
    EXPECT_THAT(values(argv, "-machine"), ElementsAre("pc-q35-7.2,accel=kvm,memory-backend=ram0"));
    EXPECT_THAT(values(argv, "-cpu"), ElementsAre("host"));
    EXPECT_THAT(values(argv, "-smp"), ElementsAre("2"));
    EXPECT_THAT(values(argv, "-m"), ElementsAre("size=1024M"));
    EXPECT_THAT(values(argv, "-object"),
                ElementsAre("memory-backend-file,id=ram0,mem-path=/s/ram-thp/demo-00000001-ram0,"
                            "share=on,align=2M,size=1073741824,prealloc=off"));
    EXPECT_THAT(values(argv, "-chardev"),
                ElementsAre("socket,id=qmp,fd=7,server=on,wait=off",
                            "socket,id=guard,fd=8,server=on,wait=off",
                            "file,id=serial0,path=/s/vms/demo/serial.log,append=on"));
    EXPECT_THAT(values(argv, "-mon"),
                ElementsAre("chardev=qmp,mode=control", "chardev=guard,mode=control"));
    for (const char* option : {"-nodefaults", "-no-user-config"}) EXPECT_TRUE(has(argv, option));
    for (const char* option : {"-kernel", "-bios", "-device", "-blockdev", "-netdev", "-S",
                               "-incoming", "-numa", "-append", "-initrd"})
        EXPECT_FALSE(has(argv, option)) << option;
}

TEST(QemuArgv, ATargetIsPausedAndWaits) {
    QemuArgvInputs in = inputs();
    in.incoming = true;
    const auto argv = render_qemu_argv(resolved_spec(), in);
    EXPECT_TRUE(has(argv, "-S"));
    EXPECT_THAT(values(argv, "-incoming"), ElementsAre("defer"));
}

TEST(QemuArgv, ACommaInAPathDoesNotBeginAnOption) {
    v1::VmSpec spec = resolved_spec();
    spec.add_disks()->set_path("/d/a,readonly=on,b.qcow2");
    spec.mutable_disks(0)->set_format("qcow2");
    QemuArgvInputs in = inputs();
    in.serial_log = "/s,tate/serial.log";
    in.ram_files = {"/s,tate/ram0"};
    in.disk_is_device = {false};
    const auto argv = render_qemu_argv(spec, in);
    EXPECT_THAT(values(argv, "-blockdev")[0],
                HasSubstr("filename=/d/a,,readonly=on,,b.qcow2,aio="));
    EXPECT_THAT(values(argv, "-object")[0], HasSubstr("mem-path=/s,,tate/ram0,share="));
    EXPECT_THAT(values(argv, "-chardev")[2], HasSubstr("path=/s,,tate/serial.log,append="));
}

TEST(QemuArgv, WhatTheGuestIsBootedWithIsOneArgumentEach) {
    v1::VmSpec spec = resolved_spec();
    spec.set_kernel("/k,ernel");
    spec.set_initrd("/initrd");
    spec.set_append("a=b,c -snapshot");
    spec.set_firmware("/fw.bin");
    const auto argv = render_qemu_argv(spec, inputs());
    EXPECT_THAT(values(argv, "-kernel"), ElementsAre("/k,ernel"));
    EXPECT_THAT(values(argv, "-initrd"), ElementsAre("/initrd"));
    EXPECT_THAT(values(argv, "-append"), ElementsAre("a=b,c -snapshot"));
    EXPECT_THAT(values(argv, "-bios"), ElementsAre("/fw.bin"));
}

TEST(QemuArgv, DisksHaveFixedNamesAndPlaces) {
    v1::VmSpec spec = resolved_spec();
    for (const char* path : {"/a.qcow2", "/dev/vdb"}) spec.add_disks()->set_path(path);
    spec.mutable_disks(0)->set_format("qcow2");
    spec.mutable_disks(1)->set_format("raw");
    spec.mutable_disks(1)->set_cache(v1::DISK_CACHE_WRITEBACK);
    spec.mutable_disks(1)->set_readonly(true);
    QemuArgvInputs in = inputs();
    in.disk_is_device = {false, true};
    const auto argv = render_qemu_argv(spec, in);
    EXPECT_THAT(
        values(argv, "-blockdev"),
        ElementsAre("driver=file,node-name=disk0-file,filename=/a.qcow2,aio=threads,read-only=off,"
                    "cache.direct=on,cache.no-flush=off",
                    "driver=qcow2,node-name=disk0,file=disk0-file,read-only=off,cache.direct=on,"
                    "cache.no-flush=off",
                    "driver=host_device,node-name=disk1-file,filename=/dev/vdb,aio=threads,"
                    "read-only=on,cache.direct=off,cache.no-flush=off",
                    "driver=raw,node-name=disk1,file=disk1-file,read-only=on,cache.direct=off,"
                    "cache.no-flush=off"));
    EXPECT_THAT(values(argv, "-device"),
                ElementsAre("virtio-blk-pci,id=vdisk0,drive=disk0,addr=0xb,bootindex=1",
                            "virtio-blk-pci,id=vdisk1,drive=disk1,addr=0xc,bootindex=2"));
}

TEST(QemuArgv, NicsAreTapsOrUserNetworks) {
    v1::VmSpec spec = resolved_spec();
    spec.add_nics()->set_mac("52:54:00:00:00:01");
    spec.add_nics()->set_mac("52:54:00:00:00:02");
    spec.mutable_nics(0)->set_bridge("br0");
    QemuArgvInputs in = inputs();
    in.tap_fds = {12, -1};
    const auto argv = render_qemu_argv(spec, in);
    EXPECT_THAT(values(argv, "-netdev"),
                ElementsAre("tap,id=net0,fd=12,vhost=off", "user,id=net1"));
    EXPECT_THAT(
        values(argv, "-device"),
        ElementsAre("virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:01,addr=0x2,romfile=",
                    "virtio-net-pci,id=nic1,netdev=net1,mac=52:54:00:00:00:02,addr=0x3,romfile="));
}

TEST(QemuArgv, NumaNodesHaveABlockEach) {
    v1::VmSpec spec = resolved_spec();
    for (const uint32_t vcpu : {1U, 0U}) {
        v1::NumaNode& node = *spec.add_numa();
        node.set_memory_bytes(Bytes{512} << 20);
        node.add_vcpus(vcpu);
    }
    QemuArgvInputs in = inputs();
    in.ram_files = {"/r0", "/r1"};
    const auto argv = render_qemu_argv(spec, in);
    EXPECT_THAT(values(argv, "-machine"), ElementsAre("pc-q35-7.2,accel=kvm"));
    EXPECT_THAT(values(argv, "-object"),
                ElementsAre(HasSubstr("id=ram0,mem-path=/r0,share=on,align=2M,size=536870912"),
                            HasSubstr("id=ram1,mem-path=/r1,share=on,align=2M,size=536870912")));
    EXPECT_THAT(values(argv, "-numa"), ElementsAre("node,nodeid=0,memdev=ram0,cpus=1",
                                                   "node,nodeid=1,memdev=ram1,cpus=0"));
}

TEST(QemuArgv, BalloonAndHotplugAreThereWhenAskedFor) {
    v1::VmSpec spec = resolved_spec();
    spec.set_balloon(true);
    spec.mutable_hotplug()->set_slots(4);
    spec.mutable_hotplug()->set_max_memory_bytes(Bytes{4} << 30);
    const auto argv = render_qemu_argv(spec, inputs());
    EXPECT_THAT(values(argv, "-m"), ElementsAre("size=1024M,slots=4,maxmem=4096M"));
    EXPECT_THAT(values(argv, "-device"), ElementsAre("virtio-balloon-pci,id=balloon0,addr=0xa"));
}

}  // namespace
}  // namespace godwit
