// What the command line reports of a migration, and a verify that finds something.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A page in the middle of 256 MiB that neither guest nor firmware touches.
constexpr off_t kUntouchedPage = 40'000;

TEST(Report, HasEveryNumberOfAMigrationAndPrintsZeros) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const CommandResult result = migrate(a, b.address(), "vm", {"--strategy", "precopy"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const json report = json_of(result);
    for (const char* text : {"migration_id", "vm", "strategy", "tracker", "outcome", "guest_at",
                             "reason", "source", "destination", "switch_reason"})
        EXPECT_TRUE(report.at(text).is_string()) << text;
    for (const char* number :
         {"total_ms", "downtime_ms", "prepare_ms", "verify_ms", "wire_bytes", "ram_bytes",
          "touched_bytes", "drains", "streams", "started_unix_ms", "attach_hold_us"})
        EXPECT_TRUE(report.at(number).is_number()) << number;
    EXPECT_TRUE(report.at("retry_safe").is_boolean());
    EXPECT_EQ(report["vm"], "vm");
    EXPECT_EQ(report["strategy"], "precopy");
    EXPECT_EQ(report["tracker"], accel_here() == "kvm" ? "kvm-dirty-log" : "uffd-wp");
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["guest_at"], "destination");
    EXPECT_EQ(report["retry_safe"], false);
    EXPECT_EQ(report["reason"], "");
    EXPECT_EQ(report["ram_bytes"], 256 << 20);
    EXPECT_GT(report["wire_bytes"], 16 << 20) << "the working set is random";
    EXPECT_GT(report["prepare_ms"], 0);
    EXPECT_GT(report["attach_hold_us"], 0);
    EXPECT_EQ(report["drains"], 0);  // there is no disk

    double parts = 0;
    for (const char* part :
         {"stop_to_quiet_ms", "collect_ms", "last_pages_ms", "device_state_ms", "commit_ms"}) {
        EXPECT_GE(report["downtime"].at(part), 0) << part;
        parts += report["downtime"][part].get<double>();
    }
    EXPECT_NEAR(parts, report["downtime_ms"].get<double>(), 1e-3) << "the parts add up";
    EXPECT_LT(report["downtime_ms"].get<double>(), report["total_ms"].get<double>());

    ASSERT_GE(report["rounds"].size(), 2U);
    uint64_t round_bytes = 0;
    for (size_t i = 0; i < report["rounds"].size(); ++i) {
        const json& round = report["rounds"][i];
        EXPECT_EQ(round["index"], i);
        for (const char* number : {"dirty_pages", "sent_pages", "sent_bytes", "duration_ms",
                                   "rate_bytes_per_s", "wire_bytes_per_s", "dirty_pages_per_s", "r",
                                   "expected_downtime_ms", "unsettled_pages"})
            EXPECT_TRUE(round.at(number).is_number()) << number;
        EXPECT_LE(round["sent_pages"], round["dirty_pages"]);
        round_bytes += round["sent_bytes"].get<uint64_t>();
    }
    EXPECT_LE(round_bytes, report["wire_bytes"].get<uint64_t>());
    for (const char* kind : {"zero", "unchanged", "lz4", "zstd", "raw"})
        EXPECT_TRUE(report["pages"].at(kind).is_number_unsigned()) << kind;
    EXPECT_GT(report["verify"].at("pages"), 0);
    EXPECT_EQ(report["verify"].at("mismatches"), 0);
}

// Whether this process keeps the host's idle CPUs awake.
bool holds_cpu_latency(pid_t pid) {
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), error))
        if (std::filesystem::read_symlink(entry, error) == "/dev/cpu_dma_latency") return true;
    return false;
}

TEST(Report, SaysWhetherCpusWereKeptAwakeAndNobodyHoldsThemAfterwards) {
    if (::access("/dev/cpu_dma_latency", W_OK) != 0) GTEST_SKIP() << "this host can't do it";
    TestAgent a, b({.flags = {"--cpu-latency", "off"}});
    start_guest(a, small_guest());
    const CommandResult there = migrate(a, b.address(), "vm", {"--strategy", "postcopy"});
    ASSERT_EQ(there.exit_code, 0) << there.err;
    EXPECT_EQ(json_of(there)["postcopy"]["source_cpus_awake"], true);
    EXPECT_EQ(json_of(there)["postcopy"]["destination_cpus_awake"], false);
    const CommandResult back = migrate(b, a.address(), "vm", {"--strategy", "postcopy"});
    ASSERT_EQ(back.exit_code, 0) << back.err;
    EXPECT_EQ(json_of(back)["postcopy"]["source_cpus_awake"], false);
    EXPECT_EQ(json_of(back)["postcopy"]["destination_cpus_awake"], true);
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return !holds_cpu_latency(a.pid()); }));
    EXPECT_FALSE(holds_cpu_latency(b.pid()));
}

TEST(Report, IsTheSameFromMigrateReportWatchAndList) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const json said = json_of(migrate(a, b.address(), "vm", {"--id", "m"}));
    EXPECT_EQ(a.cli_json({"report", "m"}), said);
    EXPECT_EQ(json_of(a.cli({"watch", "m", "--json"})), said);
    EXPECT_EQ(a.cli_json({"list"})["migrations"][0], said);
}

TEST(Report, ForPeopleHasTheRoundsAndThePauseAndTheLastLineSaysWhereTheGuestIs) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const CommandResult result =
        a.cli({"migrate", "vm", "--to", b.address(), "--downtime-limit", "500ms", "--verify"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    for (const char* word : {"round", "downtime", "device state", "on the wire", "0 mismatches"})
        EXPECT_THAT(result.out, HasSubstr(word));
    EXPECT_THAT(last_line(result.err), HasSubstr("the guest is at the destination " + b.address()));
}

TEST(Verify, ThatFindsAnotherByteAtTheDestinationNamesBlockAndPageAndTheGuestStays) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const CommandResult begun =
        a.cli({"migrate", "vm", "--to", b.address(), "--id", "m", "--detach", "--verify",
               "--strategy", "precopy", "--bandwidth", "12MiB/s", "--downtime-limit", "2s"});
    ASSERT_EQ(begun.exit_code, 0) << begun.err;
    std::string file;
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] {
        file = b.ram_file("vm");
        return !file.empty();
    })) << "there is no incoming VM";
    {
        const UniqueFd ram(::open(file.c_str(), O_RDWR | O_CLOEXEC));
        ASSERT_TRUE(ram.valid());
        ASSERT_EQ(::pwrite(ram.get(), "x", 1, kUntouchedPage * 4096 + 123), 1);
    }
    const CommandResult watched = a.cli({"watch", "m", "--json"});
    expect_at_source(a, watched,
                     {.exit_code = 1,
                      .outcome = "failed",
                      .words = {"Verify found 1 differing page", "block ram0", "page 40000"}});
    EXPECT_EQ(json_of(watched)["verify"]["mismatches"], 1);
    expect_nothing_left(b);
    const CommandResult again = migrate(a, b.address());
    EXPECT_EQ(again.exit_code, 0) << "a retry is safe: " << again.err;
    expect_alive_and_well(b, "vm", 100);
}

}  // namespace
}  // namespace godwit::testing
