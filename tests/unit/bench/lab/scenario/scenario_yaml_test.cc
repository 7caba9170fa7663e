#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/scenario/scenario.h"

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kFull = R"(name: dense
about: much of it
sets: [standard, compare]
guest: {memory: 4GiB, ws: 3GiB, rate: idle, fill: random}
link: {rate: 1Gbit, delay: 5ms}
watch: 10ms
after: 90s
repeats: 7
engines:
  - {engine: godwit, strategy: precopy, streams: 4, verify: true}
  - {engine: qemu, mode: multifd, channels: 8, compression: zstd, memory: shared}
  - {engine: copy}
targets:
  - metric: cpu_s
    ours: godwit-precopy,streams=4,verify=true
    peers: ["qemu-multifd-zstd-shared,channels=8"]
    at_most: 0.5
    issue: transport
  - {metric: downtime_ms, ours: "godwit-precopy,streams=4,verify=true", at_least: 2}
)";

std::vector<std::string> labels(const Scenario& scenario) {
    std::vector<std::string> all;
    for (const Row& row : scenario.rows) all.push_back(row.label);
    return all;
}

std::string complaint(const std::string& text) {
    const auto parsed = parse_scenarios(text, "x.yaml");
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(parsed.status().message());
}

std::string with_engines(const std::string& engines) {
    return "name: one\nguest: {memory: 128MiB, ws: 16MiB}\nengines:\n" + engines;
}

TEST(ScenarioYaml, LibvirtHasItsModesAndChannels) {
    const auto parsed =
        parse_scenarios(with_engines("  - {engine: libvirt, mode: [precopy, postcopy]}\n"
                                     "  - {engine: libvirt, mode: parallel, channels: 4}\n"),
                        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_THAT(labels(parsed->front()),
                ElementsAre("libvirt-precopy", "libvirt-postcopy", "libvirt-parallel,channels=4"));
    EXPECT_EQ(parsed->front().rows[2].engine.channels, 4);
    EXPECT_THAT(complaint(with_engines("  - {engine: libvirt, mode: precopy, channels: 4}\n")),
                HasSubstr("mode parallel only"));
    EXPECT_THAT(complaint(with_engines("  - {engine: libvirt, mode: xbzrle}\n")),
                HasSubstr("auto-converge"));
}

TEST(ScenarioYaml, APeerMayHaveAHostWhoseCpusWakeQuickly) {
    const auto parsed =
        parse_scenarios(with_engines("  - {engine: floor}\n"
                                     "  - {engine: floor, cpu_latency: 0}\n"
                                     "  - {engine: qemu, mode: preempt, cpu_latency: 5}\n"),
                        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_THAT(labels(parsed->front()),
                ElementsAre("floor", "floor,cpu_latency=0", "qemu-preempt,cpu_latency=5"));
    EXPECT_EQ(parsed->front().rows[0].cpu_latency, std::nullopt);
    EXPECT_EQ(parsed->front().rows[1].cpu_latency, std::chrono::microseconds(0));
    EXPECT_EQ(parsed->front().rows[2].cpu_latency, std::chrono::microseconds(5));
}

TEST(ScenarioYaml, AMicroBenchmarkHasNoGuest) {
    const auto parsed = parse_scenarios(
        "name: one\nengines:\n"
        "  - {engine: micro, program: bitmap_bench, case: [\"add/a:1\", \"count/a:1\"]}\n",
        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_THAT(labels(parsed->front()), ElementsAre("micro-add/a:1", "micro-count/a:1"));
    EXPECT_EQ(parsed->front().rows[1].micro.program, "bitmap_bench");
    EXPECT_EQ(parsed->front().rows[1].micro.name, "count/a:1");
    EXPECT_THAT(complaint(with_engines("  - {engine: micro, program: rm, case: x}\n")),
                HasSubstr("tracker_bench"));
    EXPECT_THAT(complaint(with_engines("  - {engine: micro, program: bitmap_bench}\n")),
                HasSubstr("case: is missing"));
}

TEST(ScenarioYaml, AGuestWithAServiceWantsALinkAndEnginesThatMoveIt) {
    const std::string guest = "name: one\nguest: {memory: 512MiB, service: true}\n";
    const std::string engines = "engines:\n  - {engine: godwit}\n";
    const auto parsed = parse_scenarios(guest + "link: {rate: 1Gbit}\n" + engines, "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(parsed->front().rows[0].guest.service);
    EXPECT_THAT(complaint(guest + engines), HasSubstr("say a rate"));
    EXPECT_THAT(complaint(guest + "link: {rate: 1Gbit}\nengines:\n  - {engine: floor}\n"),
                HasSubstr("godwit, qemu and libvirt"));
}

// 12 guests by 12 links by 12 rows: more than anybody runs, and than fits into memory before long.
TEST(ScenarioYaml, RefusesSweepsThatGrowBeyondAllBounds) {
    std::string numbers, delays;
    for (int i = 1; i <= 12; ++i) {
        numbers += fmt::format("{}{}", i == 1 ? "" : ", ", i);
        delays += fmt::format("{}{}ms", i == 1 ? "" : ", ", i);
    }
    EXPECT_THAT(complaint(fmt::format("name: one\n"
                                      "guest: {{memory: 128MiB, ws: 16MiB, rate: [{}]}}\n"
                                      "link: {{rate: 1Gbit, delay: [{}]}}\n"
                                      "engines:\n  - {{engine: godwit, max_rounds: [{}]}}\n",
                                      numbers, delays, numbers)),
                HasSubstr("there are more than 1000 rows"));
    std::string keys;
    for (int i = 0; i < 100; ++i) keys += fmt::format("k{}: [1, 2], ", i);
    EXPECT_THAT(complaint(with_engines("  - {" + keys + "engine: copy}\n")),
                HasSubstr("unknown key"));
}

TEST(ScenarioYaml, ReadsEverythingThatAScenarioHas) {
    const auto parsed = parse_scenarios(kFull, "dense.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(parsed->size(), 1U);
    const Scenario& one = parsed->front();
    EXPECT_EQ(one.name, "dense");
    EXPECT_THAT(one.sets, ElementsAre("standard", "compare"));
    EXPECT_EQ(one.link.bytes_per_s, 125'000'000U);
    EXPECT_EQ(one.link.delay, std::chrono::milliseconds(5));
    EXPECT_EQ(one.watch, std::chrono::milliseconds(10));
    EXPECT_EQ(one.after, std::chrono::seconds(90));
    EXPECT_EQ(one.repeats, 7);
    EXPECT_THAT(labels(one), ElementsAre("godwit-precopy,streams=4,verify=true",
                                         "qemu-multifd-zstd-shared,channels=8", "copy"));
    EXPECT_THAT(one.rows[0].migrate_flags, ElementsAre("--streams", "4", "--verify"));
    EXPECT_TRUE(one.rows[0].guest.idle);
    EXPECT_EQ(one.rows[0].guest.content, "fill=random");
    EXPECT_EQ(one.rows[1].engine.channels, 8);
    EXPECT_EQ(one.rows[1].engine.mode, QemuMode::kMultifdZstd);
    EXPECT_TRUE(one.rows[1].engine.shared);
    ASSERT_EQ(one.targets.size(), 2U);
    EXPECT_EQ(one.targets[0].issue, "transport");
    EXPECT_EQ(one.targets[0].target.bound, 0.5);
    EXPECT_EQ(one.targets[1].target.kind, Bound::kAtLeast);
}

TEST(ScenarioYaml, ListsOfGuestAndLinkAreScenariosAndThoseOfAnEngineAreRows) {
    const auto parsed = parse_scenarios(
        "name: sweep\nguest: {memory: [1GiB, 2GiB], ws: 64MiB}\nlink: {rate: [1Gbit, 10Gbit]}\n"
        "engines:\n  - {engine: godwit, strategy: [precopy, postcopy], streams: [1, 2]}\n",
        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    std::vector<std::string> names;
    for (const Scenario& one : *parsed) names.push_back(one.name);
    EXPECT_THAT(names,
                ElementsAre("sweep/memory=1GiB/rate=1Gbit", "sweep/memory=1GiB/rate=10Gbit",
                            "sweep/memory=2GiB/rate=1Gbit", "sweep/memory=2GiB/rate=10Gbit"));
    EXPECT_THAT(labels(parsed->front()),
                ElementsAre("godwit-precopy,streams=1", "godwit-precopy,streams=2",
                            "godwit-postcopy,streams=1", "godwit-postcopy,streams=2"));
    EXPECT_EQ(parsed->back().rows.front().guest.memory, Bytes{2} << 30);
}

TEST(ScenarioYaml, ARowMayHaveAGuestOfItsOwn) {
    const auto parsed = parse_scenarios(
        "name: one\nguest: {ws: 16MiB}\nengines:\n"
        "  - {engine: godwit, strategy: precopy, guest: {memory: [4GiB, 1TiB]}}\n",
        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_THAT(labels(parsed->front()),
                ElementsAre("godwit-precopy,memory=4GiB", "godwit-precopy,memory=1TiB"));
    EXPECT_EQ(parsed->front().rows[1].guest.memory, Bytes{1} << 40);
    EXPECT_EQ(parsed->front().rows[1].guest.working_set, Bytes{16} << 20);
}

TEST(ScenarioYaml, AMistakeIsNamedWithItsLineAndWhatWouldBeRight) {
    EXPECT_THAT(complaint(with_engines("  - {engine: godwit, strategie: precopy}\n")),
                AllOf(HasSubstr("x.yaml:4:"), HasSubstr("strategie"), HasSubstr("strategy")));
    EXPECT_THAT(complaint(with_engines("  - {engine: godwit, strategy: fastest}\n")),
                AllOf(HasSubstr("x.yaml:4:"), HasSubstr("fastest"), HasSubstr("hybrid")));
    EXPECT_THAT(complaint(with_engines("  - {engine: xen}\n")),
                AllOf(HasSubstr("x.yaml:4:"), HasSubstr("xen"), HasSubstr("godwit")));
    EXPECT_THAT(complaint("name: one\nguest: {memory: lots}\nengines:\n  - {engine: floor}\n"),
                HasSubstr("x.yaml:2:"));
    EXPECT_THAT(complaint("name: one\nlink: {rate: fast}\nguest: {memory: 1GiB, ws: 4K}\n"
                          "engines:\n  - {engine: floor}\n"),
                HasSubstr("x.yaml:2:"));
    EXPECT_THAT(complaint("name: [\n"), HasSubstr("x.yaml:"));
    EXPECT_THAT(complaint(""), HasSubstr("no scenario"));
}

TEST(ScenarioYaml, KnobsThatAnEngineDoesNotHaveAreRefused) {
    for (const char* engine :
         {"{engine: qemu, mode: precopy, channels: 2}", "{engine: qemu, streams: 2}",
          "{engine: godwit, cpu_latency: 0}", "{engine: qemu, cpu_latency: soon}",
          "{engine: qemu, mode: precopy, passes: 1}", "{engine: floor, strategy: precopy}",
          "{engine: godwit, streams: many}", "{engine: godwit, threshold: '; rm'}",
          "{engine: godwit, congestion_control: 'a b'}"})
        EXPECT_THAT(complaint(with_engines(fmt::format("  - {}\n", engine))),
                    HasSubstr("x.yaml:4:"));
}

TEST(ScenarioYaml, ATargetIsAboutRowsThatAreThere) {
    const std::string engines = "  - {engine: floor}\n";
    EXPECT_THAT(complaint(with_engines(engines) +
                          "targets:\n  - {metric: total_ms, ours: godwit, at_most: 1}\n"),
                AllOf(HasSubstr("x.yaml:6:"), HasSubstr("floor")));
    EXPECT_THAT(complaint(with_engines(engines) + "targets:\n  - {ours: floor}\n"),
                HasSubstr("at_least"));
    EXPECT_THAT(complaint(with_engines(engines) + "targets:\n  - {ours: floor, at_most: low}\n"),
                HasSubstr("no number"));
}

TEST(ScenarioYaml, ATargetMayBeADifferenceToAGuestThatStays) {
    const std::string start =
        "name: one\nguest: {memory: 128MiB, ws: 16MiB}\nbefore: 1s\nstay: 8s\n"
        "engines:\n  - {engine: stay, memory: thp}\n  - {engine: floor}\ntargets:\n";
    const auto parsed = parse_scenarios(
        start + "  - {metric: live_longest_ms, ours: floor, peers: [stay-thp], at_most_above: 2}\n",
        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->front().stay, std::chrono::seconds(8));
    const AskedTarget& asked = parsed->front().targets[0];
    EXPECT_TRUE(asked.difference);
    EXPECT_EQ(asked.target.kind, Bound::kAtMost);
    EXPECT_EQ(asked.target.bound, 2);
    EXPECT_THAT(complaint(start + "  - {metric: live_longest_ms, ours: floor, at_most_above: 2}\n"),
                HasSubstr("peers"));
    EXPECT_THAT(
        complaint(start + "  - {ours: floor, peers: [stay-thp], at_most: 1, at_most_above: 2}\n"),
        HasSubstr("one of"));
}

TEST(ScenarioYaml, AFleetHasAGuestForEachRate) {
    const auto parsed = parse_scenarios(
        with_engines("  - {engine: fleet, schedule: [serial, auto], rates: 2000 idle 500, "
                     "on_no_converge: fail}\n") +
            "targets:\n  - {ours: 'fleet-auto,on_no_converge=fail', "
            "slowest_of: ['fleet-serial,on_no_converge=fail'], at_most: 0.8}\n",
        "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const Scenario& scenario = parsed->front();
    EXPECT_THAT(labels(scenario),
                ElementsAre("fleet-serial,on_no_converge=fail", "fleet-auto,on_no_converge=fail"));
    const Row& row = scenario.rows[1];
    EXPECT_EQ(row.engine.kind, EngineKind::kFleet);
    EXPECT_EQ(row.engine.schedule, "auto");
    EXPECT_EQ(row.engine.strategy, "hybrid");
    ASSERT_EQ(row.fleet.size(), 3U);
    EXPECT_EQ(row.fleet[0].writes_per_s, 2000U);
    EXPECT_TRUE(row.fleet[1].idle);
    EXPECT_EQ(row.fleet[2].writes_per_s, 500U);
    EXPECT_EQ(row.fleet[2].memory, Bytes{128} << 20);
    EXPECT_EQ(row.guest.writes_per_s, 2000U);
    EXPECT_TRUE(scenario.targets[0].slowest);
}

TEST(ScenarioYaml, AFleetThatCannotBeIsRefused) {
    for (const char* rates : {"", "5", "idle 5", "5 many", "5 0", "5 -1"})
        EXPECT_THAT(
            complaint(with_engines(fmt::format("  - {{engine: fleet, rates: \"{}\"}}\n", rates))),
            HasSubstr("rates"))
            << rates;
    EXPECT_THAT(complaint(with_engines("  - {engine: fleet, rates: 5 5}\n  - {engine: floor}\n") +
                          "targets:\n  - {ours: fleet-auto, peers: [floor], slowest_of: [floor], "
                          "at_most: 1}\n"),
                HasSubstr("either"));
}

TEST(ScenarioYaml, ALinkMayHaveABurst) {
    const std::string guest = "name: one\nguest: {memory: 128MiB, ws: 16MiB}\n";
    const std::string engines = "engines:\n  - {engine: floor}\n";
    const auto parsed =
        parse_scenarios(guest + "link: {rate: 1Gbit, burst: 32KiB}\n" + engines, "x.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->front().link.burst, Bytes{32} << 10);
    for (const char* link :
         {"{burst: 1MiB}", "{rate: 1Gbit, burst: 1KiB}", "{rate: 1Mbit, burst: 512MiB}"})
        EXPECT_THAT(complaint(guest + "link: " + link + "\n" + engines), HasSubstr("burst"));
}

TEST(ScenarioYaml, TwoRowsOfOneNameAreRefused) {
    EXPECT_THAT(complaint(with_engines("  - {engine: floor}\n  - {engine: floor}\n")),
                HasSubstr("two rows"));
}

}  // namespace
}  // namespace godwit
