// A guest that reads from its disk flat out, and compares every page, moves there and back.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

struct Case {
    const char* name;
    const char* accel;
    const char* format;
    const char* cache;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

class GuestWithADisk : public ::testing::TestWithParam<Case> {
  protected:
    // The disk belongs to neither agent: it is on the storage that both hosts reach.
    std::string make_disk() {
        std::string raw = make_guest_disk(a, "64MiB");
        if (std::string(GetParam().format) == "raw") return raw;
        std::string converted = a.state_dir() + "/guest-disk." + GetParam().format;
        const CommandResult made =
            run_command({"qemu-img", "convert", "-O", GetParam().format, raw, converted});
        EXPECT_EQ(made.exit_code, 0) << made.err;
        return converted;
    }

    static void expect_reads_go_on(TestAgent& agent) {
        const uint64_t before = testimony(agent, "vm").disk_reads;
        EXPECT_TRUE(eventually(std::chrono::seconds(30),
                               [&] { return testimony(agent, "vm").disk_reads > before + 200; }))
            << "the disk's reads stand at " << testimony(agent, "vm").disk_reads << ", " << before
            << " before";
        expect_alive_and_well(agent, "vm");
    }

    TestAgent a, b;
};

TEST_P(GuestWithADisk, ReadsOnAfterEachMove) {
    const Case& disk = GetParam();
    if (const std::string reason = missing(disk.accel); !reason.empty()) GTEST_SKIP() << reason;
    ASSERT_NO_FATAL_FAILURE(
        start_guest(a, {.accel = disk.accel,
                        .append = "ws=16M rate=2000 disk=on dma=16M diskdepth=16",
                        .extra = fmt::format("disks: [{{path: {}, format: {}, cache: {}}}]\n",
                                             make_disk(), disk.format, disk.cache)}));
    expect_reads_go_on(a);
    move_guest(a, b, "vm");
    if (HasFailure()) return;
    expect_reads_go_on(b);
    move_guest(b, a, "vm");
    expect_reads_go_on(a);
}

INSTANTIATE_TEST_SUITE_P(Disks, GuestWithADisk,
                         ::testing::Values(Case{"KvmRaw", "kvm", "raw", "none"},
                                           Case{"KvmQcow2", "kvm", "qcow2", "none"},
                                           Case{"KvmRawThroughThePageCache", "kvm", "raw",
                                                "writeback"},
                                           Case{"TcgRaw", "tcg", "raw", "none"},
                                           Case{"TcgQcow2", "tcg", "qcow2", "none"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace godwit::testing
