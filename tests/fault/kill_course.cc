#include "tests/fault/kill_course.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>

#include "tests/fault/lab.h"

namespace godwit::testing {
namespace {

// A migration takes a second or two, of which any part can be caught.
constexpr const char* kStruckBandwidth = "4MiB/s";

}  // namespace

void print_line(const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

std::vector<std::string> flags_of(const std::string& strategy, const std::string& tracker) {
    std::vector<std::string> flags = {"--strategy", strategy,      "--tracker",
                                      tracker,      "--bandwidth", kStruckBandwidth};
    if (strategy == "precopy") flags.insert(flags.end(), {"--on-no-converge", "stop-and-copy"});
    return flags;
}

BackgroundCommand KillCourse::begin(const KillPlan& plan) {
    std::vector<std::string> words = {"migrate", kVm,    "--to", destination_.address(),
                                      "--json",  "--id", id_,    "--downtime-limit",
                                      "500ms"};
    for (const std::string& flag : flags_of(plan.strategy, plan.tracker)) words.push_back(flag);
    if (plan.verify) words.emplace_back("--verify");
    return source_.cli_in_background(words);
}

bool KillCourse::journal_of_has(const TestAgent& agent, std::string_view phase) const {
    std::ifstream file(fmt::format("{}/migrations/{}/journal.json", agent.state_dir(), id_));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return text.find(fmt::format("JOURNAL_PHASE_{}", phase)) != std::string::npos;
}

bool KillCourse::may_have_committed() const {
    for (const char* phase : {"CONT", "RESUMED", "DRAINING"})
        if (journal_of_has(destination_, phase)) return true;
    return false;
}

void KillCourse::await_moment(const KillPlan& plan, Duration undisturbed,
                              BackgroundCommand& command) {
    const auto over = [&] { return command.wait(Duration::zero()); };
    switch (plan.moment) {
        case Moment::kAnywhere:
            command.wait(std::chrono::duration_cast<Duration>(plan.part * undisturbed));
            break;
        case Moment::kNearPause:
            eventually(kStruckEndLimit,
                       [&] { return journal_of_has(source_, "FREEZING") || over(); });
            command.wait(plan.after);
            break;
        case Moment::kAtStep: {
            const TestAgent& held = plan.step_at_source ? source_ : destination_;
            eventually(kStruckEndLimit, [&] { return is_held(held) || over(); });
            break;
        }
    }
    if (over()) print_line("    the migration was over before");
}

std::string KillCourse::await_end(BackgroundCommand& command) {
    EXPECT_TRUE(command.wait(kStruckEndLimit))
        << "the command does not end: " << command.result().err;
    nlohmann::json last;
    const bool over = eventually(kStruckEndLimit, [&] {
        const CommandResult asked = source_.cli({"report", id_, "--json"});
        last = json_of(asked);
        // An agent that was killed before it had written anything down knows of no migration.
        if (!last.is_object() || !last.contains("outcome"))
            return asked.err.find("knows no migration") != std::string::npos;
        return last["outcome"] != "running" && last["outcome"] != "in-doubt";
    });
    EXPECT_TRUE(over) << "it does not end: " << last.dump(2) << command.result().err;
    if (!over || !last.is_object() || !last.contains("outcome")) return "source";
    std::string at = last["guest_at"];
    print_line(fmt::format("    {}, guest at: {}; {}", last["outcome"].get<std::string>(), at,
                           last.value("reason", "")));
    EXPECT_TRUE(at == "source" || at == "destination" || at == "none") << at;
    EXPECT_EQ(last["retry_safe"], at == "source");
    EXPECT_EQ(last["outcome"] == "done", at == "destination");
    return at;
}

}  // namespace godwit::testing
