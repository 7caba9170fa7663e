#include "tests/harness/moving.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/harness/ending.h"

namespace godwit::testing {
namespace {

void expect_moved(const nlohmann::json& report) {
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["guest_at"], "destination");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    EXPECT_GT(report["downtime_ms"], 0);
    // What follows after the resume comes from the frozen memory itself: nothing to compare there.
    const bool all_before = !report["postcopy"]["used"].get<bool>();
    if (all_before) {
        EXPECT_GT(report["verify"]["pages"], 0);
    }
    if (all_before) {
        EXPECT_GE(report["rounds"].size(), report["strategy"] == "stop-and-copy" ? 1U : 2U);
    }
}

std::string figures(const nlohmann::json& report) {
    const auto ms = [&](const char* part) { return report["downtime"][part].get<double>(); };
    return fmt::format(
        "moved: {} rounds, {} MiB on the wire, {} drains; pause {:.1f} ms (quiet {:.1f}, collect "
        "{:.1f}, pages {:.1f}, device state {:.1f}, commit {:.1f}); {}",
        report["rounds"].size(), report["wire_bytes"].get<uint64_t>() >> 20,
        report["drains"].get<int>(), report["downtime_ms"].get<double>(), ms("stop_to_quiet_ms"),
        ms("collect_ms"), ms("last_pages_ms"), ms("device_state_ms"), ms("commit_ms"),
        report["switch_reason"].get<std::string>());
}

}  // namespace

std::string tracker_for(TestAgent& agent, const std::string& vm) {
    const nlohmann::json info = agent.vm(vm);
    if (!info.is_object() || info["spec"]["accel"] != "kvm") return "uffd-wp";
    const char* asked = std::getenv("GODWIT_TEST_TRACKER");
    return asked == nullptr ? "kvm-dirty-log" : asked;
}

CommandResult migrate_with(TestAgent& from, TestAgent& to, const std::string& vm,
                           const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"migrate", vm, "--to", to.address(), "--verify", "--json"};
    // Most tests are about rounds; those of the other strategies say so.
    const auto says = [&flags](const char* flag) {
        return std::find(flags.begin(), flags.end(), flag) != flags.end();
    };
    if (!says("--strategy")) words.insert(words.end(), {"--strategy", "precopy"});
    if (!says("--tracker") && tracker_for(from, vm) == "uffd-wp")
        words.insert(words.end(), {"--tracker", "uffd-wp"});
    words.insert(words.end(), flags.begin(), flags.end());
    return from.cli(words);
}

nlohmann::json move_guest(TestAgent& from, TestAgent& to, const std::string& vm,
                          const std::vector<std::string>& flags) {
    const std::string tracker = tracker_for(from, vm);
    const CommandResult result = migrate_with(from, to, vm, flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    nlohmann::json report = json_of(result);
    if (!report.is_object()) {
        ADD_FAILURE() << "no report: " << result.out << result.err;
        return nlohmann::json::object();
    }
    expect_moved(report);
    EXPECT_EQ(report["tracker"], tracker) << report["tracker_reason"];
    expect_nothing_left(from, vm);
    std::puts(figures(report).c_str());
    return report;
}

}  // namespace godwit::testing
