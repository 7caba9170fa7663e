#include "engine/guest/qemu/qemu_hypervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "engine/guest/qemu/kvm_probe.h"
#include "test_vms.h"

namespace godwit {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string message_of(const absl::Status& status) { return std::string(status.message()); }

class QemuVmLife : public testing::TestWithParam<v1::Accel> {
  protected:
    void SetUp() override { GODWIT_NEED_ROOT_AND(GetParam()); }
    StateDir state_;
};

INSTANTIATE_TEST_SUITE_P(Accel, QemuVmLife, testing::Values(v1::ACCEL_TCG, v1::ACCEL_KVM),
                         [](const auto& chosen) { return v1::Accel_Name(chosen.param); });

TEST_P(QemuVmLife, AStartedVmRunsAndAForcedStopLeavesNothing) {
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        const auto vm = hypervisor.start(bios_guest("demo", GetParam()), StartMode::kRun);
        ASSERT_TRUE(vm.ok()) << vm.status();
        EXPECT_EQ((*vm)->run_state().value_or(RunState::kOther), RunState::kRunning);
        EXPECT_EQ((*vm)->migration_status().value_or(""), "none");
        EXPECT_EQ((*vm)->vcpu_threads()->size(), 1U);
        EXPECT_THAT(*(*vm)->migration_blockers(), IsEmpty());
        EXPECT_TRUE((*vm)->drain_block_io(kTestLimit).ok());
        const v1::VmSpec& spec = (*vm)->spec();
        EXPECT_EQ(spec.accel(), GetParam());
        EXPECT_THAT(spec.machine(), HasSubstr("pc-q35-"));
        EXPECT_EQ(spec.uuid().size(), 36U);
        ASSERT_EQ((*vm)->ram_blocks().size(), 1U);
        EXPECT_EQ((*vm)->ram_blocks()[0].name, "ram0");
        EXPECT_EQ((*vm)->ram_blocks()[0].size, 64U << 20);
        EXPECT_TRUE(std::filesystem::exists(hypervisor.serial_log_path("demo")));
        struct stat info {};
        ASSERT_EQ(::stat((state_.path() + "/vms/demo").c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 0777, 0700U);
        EXPECT_TRUE((*vm)->stop(/*force=*/true, kTestLimit).ok());
        EXPECT_TRUE(hypervisor.forget(**vm).ok());
        EXPECT_EQ((*vm)->run_state().status().code(), absl::StatusCode::kNotFound);
    }
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_P(QemuVmLife, ATargetWaitsPausedWithEmptyRam) {
    QemuHypervisor hypervisor({.state_dir = state_.path()});
    const auto vm = hypervisor.start(bios_guest("demo", GetParam()), StartMode::kIncoming);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ((*vm)->run_state().value_or(RunState::kOther), RunState::kInMigrate);
    struct stat info {};
    ASSERT_EQ(::fstat((*vm)->ram_blocks()[0].file.get(), &info), 0);
    EXPECT_EQ(info.st_blocks, 0);
    // Nothing is loaded: `cont` must not be left in QEMU as a wish for later.
    EXPECT_EQ((*vm)->resume(kTestLimit).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ((*vm)->run_state().value_or(RunState::kOther), RunState::kInMigrate);
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
}

TEST_P(QemuVmLife, ARestartedAgentFindsItsVms) {
    pid_t pid = 0;
    std::string uuid;
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        const auto vm = hypervisor.start(bios_guest("demo", GetParam()), StartMode::kRun);
        ASSERT_TRUE(vm.ok()) << vm.status();
        pid = (*vm)->pid();
        uuid = (*vm)->spec().uuid();
    }
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        const auto vms = hypervisor.adopt();
        ASSERT_TRUE(vms.ok()) << vms.status();
        ASSERT_EQ(vms->size(), 1U);
        Vm& vm = *vms->front();
        EXPECT_EQ(vm.pid(), pid);
        EXPECT_EQ(vm.spec().uuid(), uuid);
        EXPECT_EQ(vm.run_state().value_or(RunState::kOther), RunState::kRunning);
        EXPECT_EQ(vm.ram_blocks().size(), 1U);
        EXPECT_TRUE(hypervisor.adopt()->empty());
        EXPECT_EQ(hypervisor.start(bios_guest("demo"), StartMode::kRun).status().code(),
                  absl::StatusCode::kAlreadyExists);
        EXPECT_TRUE(vm.stop(true, kTestLimit).ok());
    }
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_P(QemuVmLife, AQemuThatIsKilledIsToldAndItsErrorSaysHow) {
    QemuHypervisor hypervisor({.state_dir = state_.path()});
    const auto vm = hypervisor.start(bios_guest("demo", GetParam()), StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EventLog log(**vm);
    ASSERT_EQ(::kill((*vm)->pid(), SIGKILL), 0);
    EXPECT_TRUE(log.wait_for(GuestEventKind::kGone, "killed by SIGKILL"));
    EventLog late(**vm);
    EXPECT_TRUE(late.wait_for(GuestEventKind::kGone));
    const absl::Status status = (*vm)->run_state().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(message_of(status), HasSubstr("has ended: killed by SIGKILL"));
    EXPECT_TRUE((*vm)->stop(false, kTestLimit).ok());
}

class QemuHypervisorTest : public testing::Test {
  protected:
    void SetUp() override { GODWIT_NEED_ROOT_AND(v1::ACCEL_TCG); }
    StateDir state_;
    QemuHypervisor hypervisor_{{.state_dir = state_.path()}};
};

TEST_F(QemuHypervisorTest, InfoNamesTheVersion) {
    const auto info = hypervisor_.info();
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->name, "qemu");
    EXPECT_NE(info->version.find('.'), std::string::npos);
}

TEST_F(QemuHypervisorTest, ANameIsTakenOnce) {
    const auto vm = hypervisor_.start(bios_guest("demo"), StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ(hypervisor_.start(bios_guest("demo"), StartMode::kRun).status().code(),
              absl::StatusCode::kAlreadyExists);
    EXPECT_EQ((*vm)->run_state().value_or(RunState::kOther), RunState::kRunning);
    EXPECT_EQ(hypervisor_.forget(**vm).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
    const auto again = hypervisor_.start(bios_guest("demo"), StartMode::kRun);
    ASSERT_TRUE(again.ok()) << again.status();
    // The first VM's object must not take the second one's files away.
    EXPECT_TRUE(hypervisor_.forget(**vm).ok());
    EXPECT_TRUE(std::filesystem::exists(state_.path() + "/vms/demo/vm.json"));
    EXPECT_TRUE((*again)->stop(true, kTestLimit).ok());
}

TEST_F(QemuHypervisorTest, WhatTheHostLacksIsNamedWithItsField) {
    v1::VmSpec spec = bios_guest("demo");
    spec.add_disks()->set_path("/nonexistent/disk.raw");
    EXPECT_EQ(hypervisor_.check(spec).code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(message_of(hypervisor_.check(spec)),
                HasSubstr("disks[0].path: /nonexistent/disk.raw"));
    EXPECT_EQ(hypervisor_.start(spec, StartMode::kRun).status().code(),
              absl::StatusCode::kNotFound);
    spec = bios_guest("demo");
    spec.add_nics()->set_bridge("gwnobridge");
    EXPECT_THAT(message_of(hypervisor_.check(spec)), HasSubstr("nics[0].bridge: "));
    spec = bios_guest("demo");
    spec.set_machine("q36");
    EXPECT_THAT(message_of(hypervisor_.check(spec)), HasSubstr("machine: "));
    spec = bios_guest("demo");
    spec.set_kernel("/nonexistent/kernel");
    EXPECT_THAT(message_of(hypervisor_.check(spec)), HasSubstr("kernel: /nonexistent/kernel"));
    spec = bios_guest("demo");
    spec.set_memory_bytes(Bytes{1} << 40);
    spec.set_memory_backing(v1::MEMORY_BACKING_HUGETLB_2M);
    EXPECT_THAT(message_of(hypervisor_.check(spec)), HasSubstr("free huge pages"));
    EXPECT_TRUE(hypervisor_.check(bios_guest("demo")).ok());
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(QemuHypervisorTest, QemusOwnWordsAreToldWhenItEndsAtOnce) {
    std::ofstream(state_.path() + "/not-qcow2") << std::string(4096, 'x');
    v1::VmSpec spec = bios_guest("demo");
    spec.add_disks()->set_path(state_.path() + "/not-qcow2");
    spec.mutable_disks(0)->set_format("qcow2");
    const absl::Status status = hypervisor_.start(spec, StartMode::kRun).status();
    EXPECT_THAT(message_of(status), HasSubstr("exit status 1"));
    EXPECT_THAT(message_of(status), HasSubstr("not in qcow2 format"));
    std::filesystem::remove(state_.path() + "/not-qcow2");
    hypervisor_.release_unused_mounts();
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(QemuHypervisorTest, AnImageThatQemuCannotMigrateIsNamed) {
    const std::string image = state_.path() + "/disk.vmdk";
    ASSERT_TRUE(make_image(image, "vmdk"));
    v1::VmSpec spec = bios_guest("demo");
    spec.add_disks()->set_path(image);
    spec.mutable_disks(0)->set_format("vmdk");
    const auto vm = hypervisor_.start(spec, StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    const auto blockers = (*vm)->migration_blockers();
    ASSERT_TRUE(blockers.ok());
    ASSERT_FALSE(blockers->empty());
    EXPECT_THAT(blockers->front(), HasSubstr("vmdk"));
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
}

TEST_F(QemuHypervisorTest, AVmWithEveryPartStarts) {
    ASSERT_TRUE(make_image(state_.path() + "/a,b.qcow2", "qcow2"));
    v1::VmSpec spec = bios_guest("demo");
    spec.set_vcpus(2);
    spec.set_balloon(true);
    spec.set_memory_backing(v1::MEMORY_BACKING_4K);
    spec.add_disks()->set_path(state_.path() + "/a,b.qcow2");
    spec.mutable_disks(0)->set_format("qcow2");
    spec.mutable_disks(0)->set_cache(v1::DISK_CACHE_WRITEBACK);
    spec.add_nics();
    for (const uint32_t vcpu : {0U, 1U}) {
        spec.add_numa()->set_memory_bytes(32 << 20);
        spec.mutable_numa(static_cast<int>(vcpu))->add_vcpus(vcpu);
    }
    spec.mutable_hotplug()->set_slots(2);
    spec.mutable_hotplug()->set_max_memory_bytes(256 << 20);
    const auto vm = hypervisor_.start(spec, StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ((*vm)->ram_blocks().size(), 2U);
    EXPECT_EQ((*vm)->ram_blocks()[1].name, "ram1");
    EXPECT_EQ((*vm)->ram_blocks()[1].backing, Backing::kTmpfs4k);
    EXPECT_EQ((*vm)->vcpu_threads()->size(), 2U);
    EXPECT_EQ((*vm)->discarding_devices().size(), 1U);
    EXPECT_TRUE(grow_disk(**vm).ok()) << grow_disk(**vm);
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
}

TEST_F(QemuHypervisorTest, AGuestThatIgnoresPowerOffIsReported) {
    const auto vm = hypervisor_.start(bios_guest("demo"), StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    const absl::Status status = (*vm)->stop(false, std::chrono::milliseconds(300));
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(message_of(status), HasSubstr("--force"));
    EXPECT_EQ((*vm)->run_state().value_or(RunState::kOther), RunState::kRunning);
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
}

TEST_F(QemuHypervisorTest, AGuestThatEndsByItselfSaysWhyFirst) {
    const auto vm = hypervisor_.start(bios_guest("demo"), StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EventLog log(**vm);
    (void)monitor_command(**vm, "quit");
    ASSERT_TRUE(log.wait_for(GuestEventKind::kGone, "exit status 0"));
    const auto events = log.events();
    ASSERT_GE(events.size(), 2U);
    EXPECT_EQ(events[events.size() - 2].kind, GuestEventKind::kShutdown);
    EXPECT_EQ(events[events.size() - 2].detail, "host-qmp-quit");
    EXPECT_TRUE(hypervisor_.forget(**vm).ok());
}

TEST_F(QemuHypervisorTest, TheMemoryLimitCountsWhatRuns) {
    QemuHypervisor hypervisor({.state_dir = state_.path(), .memory_limit_bytes = 100 << 20});
    const auto vm = hypervisor.start(bios_guest("one"), StartMode::kRun);
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ(hypervisor.check(bios_guest("two")).code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(hypervisor.start(bios_guest("two"), StartMode::kRun).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_FALSE(std::filesystem::exists(state_.path() + "/vms/two"));
    EXPECT_TRUE((*vm)->stop(true, kTestLimit).ok());
    EXPECT_TRUE(hypervisor.check(bios_guest("two")).ok());
}

TEST_F(QemuHypervisorTest, ALongStateDirectoryIsRefusedWithAdvice) {
    QemuHypervisor hypervisor({.state_dir = state_.path() + "/" + std::string(90, 'a')});
    const absl::Status status = hypervisor.start(bios_guest("demo"), StartMode::kRun).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(message_of(status), HasSubstr("shorter --state-dir"));
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(QemuHypervisorTest, WhatAnEndedVmLeftIsRemovedAtAdoption) {
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        const auto vm = hypervisor.start(bios_guest("demo"), StartMode::kRun);
        ASSERT_TRUE(vm.ok()) << vm.status();
        ASSERT_TRUE((*vm)->kill(kTestLimit).ok());
    }
    EXPECT_TRUE(std::filesystem::exists(state_.path() + "/vms/demo/vm.json"));
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        const auto vms = hypervisor.adopt();
        ASSERT_TRUE(vms.ok());
        EXPECT_TRUE(vms->empty());
    }
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(QemuHypervisorTest, AForeignProcessWithThePidOfARecordIsLeftAlone) {
    VmRecord record{.process = {.pid = ::getpid(), .start_time = *process_start_time(::getpid())},
                    .ram_files = {state_.path() + "/ram-thp/demo-00000000-ram0"}};
    record.spec = bios_guest("demo");
    const VmPaths paths = vm_paths(state_.path(), "demo");
    std::filesystem::create_directories(paths.directory);
    ASSERT_TRUE(write_record(record, paths.record()).ok());
    const auto vms = hypervisor_.adopt();
    ASSERT_TRUE(vms.ok());
    EXPECT_TRUE(vms->empty());
    EXPECT_THAT(state_.leftovers(), IsEmpty());
}

TEST_F(QemuHypervisorTest, ADamagedRecordKeepsItsDirectoryAndOtherVmsAreAdopted) {
    const VmPaths paths = vm_paths(state_.path(), "broken");
    std::filesystem::create_directories(paths.directory);
    std::ofstream(paths.record()) << "{";
    {
        QemuHypervisor hypervisor({.state_dir = state_.path()});
        ASSERT_TRUE(hypervisor.start(bios_guest("demo"), StartMode::kRun).ok());
    }
    const auto vms = hypervisor_.adopt();
    ASSERT_TRUE(vms.ok());
    ASSERT_EQ(vms->size(), 1U);
    EXPECT_TRUE(std::filesystem::exists(paths.record()));
    EXPECT_TRUE(vms->front()->stop(true, kTestLimit).ok());
}

}  // namespace
}  // namespace godwit
