#include "tests/fault/random_drain.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "engine/base/units.h"
#include "engine/base/wait.h"

namespace godwit::testing {
namespace {

constexpr Duration kRandomLimit = std::chrono::seconds(120);
// The whole working set is looked at within these.
constexpr uint64_t kSweep = 2'700;

void pass(Duration length) { wait_readable(-1, -1, Clock::system().now() + length).IgnoreError(); }

void say(const std::string& what) {
    std::printf("%s\n", what.c_str());
    std::fflush(stdout);
}

}  // namespace

void RandomDrain::SetUp() {
    if (!problem().empty()) GTEST_SKIP() << "no two hosts here: " << problem();
    const char* given = std::getenv("GODWIT_FAULT_SEED");
    const uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device{}();
    say(fmt::format("GODWIT_FAULT_SEED={}", seed));
    random_.seed(seed);
    DrainLab::SetUp();
}

// Not by a distribution of the library: a seed means the same with any.
int64_t RandomDrain::draw(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random_() % static_cast<uint64_t>(most - least + 1));
}

Duration RandomDrain::draw_ms(int64_t least, int64_t most) {
    return std::chrono::milliseconds(draw(least, most));
}

BackgroundCommand RandomDrain::begin_and_await_a_moment() {
    const bool hybrid = draw(0, 1) == 1;
    // Much of a migration's time is not where it is in most danger.
    const bool near_the_pause = draw(0, 2) == 0;
    const Duration moment = near_the_pause ? draw_ms(0, 300) : draw_ms(0, hybrid ? 5000 : 3500);
    say(fmt::format("{}, {:.0f} ms after {}", hybrid ? "hybrid" : "postcopy", to_ms(moment),
                    near_the_pause ? "the freeze began" : "it began"));
    BackgroundCommand command =
        begin_migration({"--strategy", hybrid ? "hybrid" : "postcopy", "--bandwidth", kBandwidth});
    if (near_the_pause)
        eventually(kRandomLimit,
                   [&] { return journal_says("FREEZING") || command.wait(Duration::zero()); });
    pass(moment);
    return command;
}

void RandomDrain::kill_and_bring_back() {
    const int64_t who = draw(0, 2);
    const Duration between = draw_ms(0, 100);
    const Duration away = draw_ms(0, 2500);
    const bool a_first = draw(0, 1) == 0;
    say(fmt::format("  killed: {}; away for {:.0f} ms",
                    who == 0   ? "the source's agent"
                    : who == 1 ? "the destination's agent"
                    : a_first  ? "the source's agent, then the destination's"
                               : "the destination's agent, then the source's",
                    to_ms(away)));
    std::vector<TestAgent*> victims;
    if (who != 1) victims.push_back(&a);
    if (who != 0) victims.push_back(&b);
    if (who == 2 && !a_first) std::swap(victims[0], victims[1]);
    for (TestAgent* victim : victims) {
        if (victim != victims.front()) pass(between);
        victim->end(SIGKILL);
    }
    pass(away);
    if (draw(0, 1) == 1) std::reverse(victims.begin(), victims.end());
    for (TestAgent* victim : victims) bring_back(*victim);
}

void RandomDrain::cut(Duration length) {
    const int host = static_cast<int>(draw(0, 1));
    say(fmt::format("cut for {:.0f} ms at the {}", to_ms(length),
                    host == 0 ? "source" : "destination"));
    set_link(host, false);
    pass(length);
    set_link(host, true);
}

std::string RandomDrain::guest_at_in_the_end(BackgroundCommand& command) {
    EXPECT_TRUE(command.wait(kRandomLimit)) << "the command does not end: " << command.result().err;
    nlohmann::json last;
    EXPECT_TRUE(eventually(kRandomLimit, [&] {
        last = report();
        return last.is_object() && last.value("outcome", "") != "running" &&
               last.value("outcome", "") != "in-doubt";
    })) << last.dump(2);
    // An agent that was killed before it had written anything down knows of no migration.
    if (!last.contains("guest_at")) return "source";
    const std::string at = last["guest_at"];
    say(fmt::format("{}, the guest is at: {}; {}", last["outcome"].get<std::string>(), at,
                    last.value("reason", "")));
    EXPECT_EQ(last["retry_safe"], at == "source");
    EXPECT_EQ(last["outcome"] == "done", at == "destination");
    return at;
}

void RandomDrain::expect_one_whole_guest(BackgroundCommand& command) {
    const std::string at = guest_at_in_the_end(command);
    ASSERT_TRUE(at == "source" || at == "destination") << at;
    TestAgent& here = at == "source" ? a : b;
    TestAgent& there = at == "source" ? b : a;
    witness->expect_one();
    EXPECT_FALSE(at == "source" && witness->ran_at_destination());
    expect_alive_and_well(here, kVm, kSweep);
    expect_only_at(here, there);
    EXPECT_TRUE(eventually(kRandomLimit, [&] { return kept_files(here).empty(); }))
        << ::testing::PrintToString(kept_files(here));
    EXPECT_EQ(here.ram_files_on_disk().size(), 1U);
    EXPECT_TRUE(there.ram_files_on_disk().empty())
        << ::testing::PrintToString(there.ram_files_on_disk());
    EXPECT_FALSE(has_missing_faults(here.qemu_pid(kVm))) << "faults are not the kernel's again";
}

TEST_P(RandomKills, LeaveOneWholeGuest) {
    BackgroundCommand command = begin_and_await_a_moment();
    kill_and_bring_back();
    expect_one_whole_guest(command);
}

TEST_P(RandomCuts, LeaveOneWholeGuest) {
    BackgroundCommand command = begin_and_await_a_moment();
    // A blink, one that TCP bridges, one that ends its connections in a drain, or anywhere.
    const int kind = GetParam() % 10 == 9 ? 3 : GetParam() % 3;
    cut(kind == 0   ? draw_ms(5, 200)
        : kind == 1 ? draw_ms(500, 4000)
        : kind == 2 ? draw_ms(9'000, 13'000)
                    : draw_ms(31'000, 36'000));
    expect_one_whole_guest(command);
}

// One thing after the other, and agents that die and come back while the link is cut.
TEST_P(RandomStorms, LeaveOneWholeGuest) {
    BackgroundCommand command = begin_and_await_a_moment();
    for (int64_t rest = draw(2, 5); rest > 0; --rest) {
        const int64_t what = draw(0, 2);
        if (what == 0) {
            cut(draw_ms(5, 4000));
        } else {
            const int host = static_cast<int>(draw(0, 1));
            if (what == 2) {
                say(fmt::format("cut at the {} until they are back",
                                host == 0 ? "source" : "destination"));
                set_link(host, false);
            }
            kill_and_bring_back();
            if (what == 2) set_link(host, true);
        }
        pass(draw_ms(0, 1500));
    }
    expect_one_whole_guest(command);
}

}  // namespace godwit::testing
