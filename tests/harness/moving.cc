#include "tests/harness/moving.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/harness/ending.h"

namespace godwit::testing {
namespace {

void expect_moved(const nlohmann::json& report) {
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["guest_at"], "destination");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    EXPECT_GT(report["verify"]["pages"], 0);
    EXPECT_GT(report["downtime_ms"], 0);
    EXPECT_GE(report["rounds"].size(), 2U);
}

}  // namespace

CommandResult migrate_with(TestAgent& from, TestAgent& to, const std::string& vm,
                           const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"migrate", vm, "--to", to.address(), "--verify", "--json"};
    words.insert(words.end(), flags.begin(), flags.end());
    return from.cli(words);
}

nlohmann::json move_guest(TestAgent& from, TestAgent& to, const std::string& vm,
                          const std::vector<std::string>& flags) {
    const CommandResult result = migrate_with(from, to, vm, flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    nlohmann::json report = json_of(result);
    if (!report.is_object()) {
        ADD_FAILURE() << "no report: " << result.out << result.err;
        return nlohmann::json::object();
    }
    expect_moved(report);
    expect_nothing_left(from, vm);
    std::printf("moved: %zu rounds, %llu MiB on the wire, pause %.1f ms, %d drains; %s\n",
                report["rounds"].size(),
                static_cast<unsigned long long>(report["wire_bytes"].get<uint64_t>() >> 20),
                report["downtime_ms"].get<double>(), report["drains"].get<int>(),
                report["switch_reason"].get<std::string>().c_str());
    return report;
}

}  // namespace godwit::testing
