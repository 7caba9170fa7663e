// --compress, --delta-cache and --no-page-hashes: whatever the way, every page arrives.
#include <gtest/gtest.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

constexpr const char* kVm = "vm";
// A few bytes of a page at a time, in pages that are written again and again.
constexpr const char* kSmallChanges = "ws=32M rate=20000 pattern=random fill=text change=64";

class Compression : public ::testing::TestWithParam<const char*> {
  protected:
    // There and back, with all RAM compared; returns both reports.
    std::vector<json> there_and_back(std::vector<std::string> flags) {
        start_guest(a, {.memory = "128MiB",
                        .accel = accel_here(),
                        .backing = GetParam(),
                        .append = kSmallChanges});
        if (HasFatalFailure()) return {};
        flags.insert(flags.end(), {"--strategy", "precopy", "--on-no-converge", "stop-and-copy",
                                   "--max-rounds", "4", "--downtime-limit", "1ms", "--max-data",
                                   "1000x", "--bandwidth", "100MB/s"});
        std::vector<json> reports{move_guest(a, b, kVm, flags)};
        if (HasFailure()) return {};
        expect_alive_and_well(b, kVm);
        reports.push_back(move_guest(b, a, kVm, flags));
        if (HasFailure()) return {};
        expect_alive_and_well(a, kVm, 10'000);
        return reports;
    }

    TestAgent a, b;
};

TEST_P(Compression, SendsWhatChangedOfPagesThatAreWrittenAgain) {
    for (const json& report : there_and_back({"--compress", "lz4"})) {
        EXPECT_EQ(report["compression"], "lz4");
        EXPECT_GT(report["pages"]["delta"], 0) << report["pages"];
        EXPECT_GT(report["pages"]["lz4"], 0) << report["pages"];
        uint64_t deltas = 0;
        for (const json& round : report["rounds"])
            deltas += round["pages"]["delta"].get<uint64_t>();
        EXPECT_EQ(report["pages"]["delta"], deltas);
    }
}

TEST_P(Compression, PacksByZstdWhereThatIsAskedFor) {
    for (const json& report : there_and_back({"--compress", "zstd"})) {
        EXPECT_EQ(report["compression"], "zstd");
        EXPECT_GT(report["pages"]["zstd"], 0) << report["pages"];
        EXPECT_EQ(report["pages"]["lz4"], 0) << report["pages"];
    }
}

TEST_P(Compression, SendsEveryPageAsItIsWhereThatIsAskedFor) {
    for (const json& report : there_and_back({"--compress", "off"})) {
        EXPECT_EQ(report["pages"]["delta"], 0);
        EXPECT_EQ(report["pages"]["lz4"], 0);
        EXPECT_GT(report["pages"]["raw"], 0);
    }
}

TEST_P(Compression, DoesWithoutPageHashes) {
    for (const json& report : there_and_back({"--compress", "lz4", "--no-page-hashes"})) {
        EXPECT_EQ(report["pages"]["delta"], 0);
        EXPECT_EQ(report["pages"]["unchanged"], 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Backing, Compression, ::testing::Values("thp", "4k"),
                         [](const auto& test) { return std::string(test.param); });

class CompressionFlags : public ::testing::Test {
  protected:
    TestAgent a, b;
};

TEST_F(CompressionFlags, PageHashesAreNeededToVerifyAGuestThatResumesEarly) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.accel = accel_here(), .append = "ws=8M rate=100"}));
    const CommandResult result =
        migrate_with(a, b, kVm, {"--strategy", "hybrid", "--no-page-hashes"});
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_NE((result.out + result.err).find("no_page_hashes"), std::string::npos) << result.err;
    expect_alive_and_well(a, kVm);
}

TEST_F(CompressionFlags, ADeltaCacheThatIsNoSizeIsAUsageError) {
    const CommandResult result =
        a.cli({"migrate", kVm, "--to", b.address(), "--delta-cache", "much"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.err.find("--delta-cache"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace godwit::testing
