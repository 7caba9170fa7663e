// A Linux guest with disk and network moves there and back, and says on its console how it is.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/base/units.h"
#include "engine/guest/qemu/qmp_client.h"
#include "engine/handover/step_hook.h"
#include "tests/e2e/linux_console.h"
#include "tests/harness/ending.h"
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
    const char* more = "";  // lines of the VM file
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
            "mitigations=off init_on_alloc=0\n"
            "disks: [{{path: {}, format: {}, cache: {}}}]\nnics: [user]\n{}",
            kVm, linux_guest_dir(), linux_guest_dir(), image, disk.format, disk.cache, disk.more);
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

// Pages that were sent already become zeros, behind the back of the tracker (and of the guest,
// which would write zeros there itself with init_on_alloc=1). Unseen, some thousand pages would
// differ.
class LinuxBalloon : public LinuxGuest {
  protected:
    // Wants the guest to give back all but so much, and waits until it has.
    void inflate(Bytes rest) {
        const auto qmp = QmpClient::connect(fmt::format("{}/vms/{}/guard.sock", a.state_dir(), kVm),
                                            Clock::system().now() + kQmpLimit,
                                            [](const QmpEvent&, MonotonicTime) {});
        ASSERT_TRUE(qmp.ok()) << qmp.status();
        ASSERT_TRUE((*qmp)->execute("balloon", {{"value", rest}}, kQmpLimit).ok());
        EXPECT_TRUE(eventually(kQmpLimit, [&] {
            const auto balloon = (*qmp)->execute("query-balloon", {}, kQmpLimit);
            return balloon.ok() && balloon->at("actual").get<Bytes>() <= rest;
        }));
    }
    static constexpr Duration kQmpLimit = std::chrono::seconds(40);
};

TEST_P(LinuxBalloon, ThatTakesMemoryBackBetweenTheRoundsIsFollowed) {
    a.restart({.flags = {"--test-hold-at", std::string(step::kRoundSent)}});
    BackgroundCommand moving =
        a.cli_in_background({"migrate", kVm, "--to", b.address(), "--verify", "--json",
                             "--downtime-limit", "500ms", "--on-no-converge", "stop-and-copy"});
    const std::string held = a.state_dir() + "/held";
    ASSERT_TRUE(eventually(kBootLimit, [&] { return std::filesystem::exists(held); }));
    ASSERT_NO_FATAL_FAILURE(inflate(Bytes{128} << 20));
    std::filesystem::remove(held);
    ASSERT_TRUE(moving.wait(std::chrono::seconds(120)));
    const nlohmann::json report = json_of(moving.result());
    ASSERT_TRUE(report.is_object()) << moving.result().err;
    EXPECT_EQ(report["outcome"], "done") << moving.result().err;
    EXPECT_EQ(report["tracker"], "uffd-wp");
    EXPECT_TRUE(report["warnings"].empty()) << report["warnings"];
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    console.follow(b, kVm);
    expect_goes_on();
}

INSTANTIATE_TEST_SUITE_P(Disks, LinuxBalloon,
                         ::testing::Values(Disk{"raw", "none", "balloon: true\n"}),
                         [](const auto& test) { return std::string(test.param.format); });

INSTANTIATE_TEST_SUITE_P(Disks, LinuxGuest,
                         ::testing::Values(Disk{"raw", "none"}, Disk{"qcow2", "none"}),
                         [](const auto& test) {
                             return fmt::format("{}_{}", test.param.format, test.param.cache);
                         });

}  // namespace
}  // namespace godwit::testing
