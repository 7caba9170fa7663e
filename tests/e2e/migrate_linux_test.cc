// A Linux guest with disk and network moves there and back, and says on its console how it is.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/e2e/linux_console.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

constexpr const char* kVm = "linux";
// Under TCG on a busy machine.
constexpr Duration kBootLimit = std::chrono::seconds(90);

struct Disk {
    const char* format;
    const char* cache;
};
void PrintTo(const Disk& disk, std::ostream* out) { *out << disk.format << " " << disk.cache; }

class LinuxGuest : public ::testing::TestWithParam<Disk> {
  protected:
    void SetUp() override {
        if (linux_guest_dir().empty())
            GTEST_SKIP() << "no Linux guest: run tests/e2e/linux_guest/make.sh build/linux-guest";
        const CommandResult started = a.cli({"vm", "start", write_linux_vm_file()});
        ASSERT_EQ(started.exit_code, 0) << started.err;
        console.follow(a, kVm);
        expect_goes_on();
    }

    // TCG: a Linux kernel hangs at boot under a software-assisted KVM.
    std::string write_linux_vm_file() {
        const Disk& disk = GetParam();
        const std::string image = fmt::format("{}/disk.{}", a.state_dir(), disk.format);
        const CommandResult made =
            run_command({"qemu-img", "create", "-f", disk.format, image, "16M"});
        EXPECT_EQ(made.exit_code, 0) << made.err;
        std::string path = fmt::format("{}/{}.yaml", a.state_dir(), kVm);
        std::ofstream(path) << fmt::format(
            "name: {}\nmemory: 256MiB\nvcpus: 2\naccel: tcg\nkernel: {}/vmlinuz\n"
            "initrd: {}/initrd.img\n"
            "append: console=ttyS0 quiet panic=-1 oops=panic tsc=reliable no_timer_check "
            "mitigations=off\n"
            "disks: [{{path: {}, format: {}, cache: {}}}]\nnics: [user]\n",
            kVm, linux_guest_dir(), linux_guest_dir(), image, disk.format, disk.cache);
        return path;
    }

    // Each of its testimonies comes again, and none tells of a fault.
    void expect_goes_on() {
        const auto before = console.counts();
        const auto more = [&](const char* kind, uint64_t lines) {
            const auto was = before.find(kind);
            return console.counts()[kind] >= (was == before.end() ? 0 : was->second) + lines;
        };
        EXPECT_TRUE(eventually(kBootLimit, [&] {
            return more("tick", 10) && more("disk ok", 4) && more("mem ok", 2) && more("net ok", 2);
        })) << console.text();
        EXPECT_THAT(console.faults(), ::testing::IsEmpty()) << console.text();
    }

    void move(TestAgent& from, TestAgent& to) {
        move_guest(from, to, kVm);
        if (HasFailure()) return;
        console.follow(to, kVm);
        expect_goes_on();
    }

    TestAgent a, b;
    LinuxConsole console;
};

TEST_P(LinuxGuest, GoesOnAfterEachMoveWithoutALineMissing) {
    for (int trip = 0; trip < 2 && !HasFailure(); ++trip) {
        move(a, b);
        move(b, a);
    }
    for (const auto& [kind, lines] : console.counts())
        std::printf("%s: %llu\n", kind.c_str(), static_cast<unsigned long long>(lines));
}

INSTANTIATE_TEST_SUITE_P(Disks, LinuxGuest,
                         ::testing::Values(Disk{"raw", "none"}, Disk{"qcow2", "none"}),
                         [](const auto& test) {
                             return fmt::format("{}_{}", test.param.format, test.param.cache);
                         });

}  // namespace
}  // namespace godwit::testing
