#include "tools/godwit/fleet_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST(VmNames, AreSplitAndMayHaveSpaces) {
    EXPECT_THAT(*parse_vm_names("web, db,mail"), ElementsAre("web", "db", "mail"));
}

TEST(VmNames, ThatAreEmptyOrThereTwiceAreNamed) {
    for (const char* text : {"", "web,", ",web", "web,,db"})
        EXPECT_THAT(std::string(parse_vm_names(text).status().message()),
                    HasSubstr("a name is missing"));
    EXPECT_THAT(std::string(parse_vm_names("web,db,web").status().message()),
                HasSubstr("web is there twice"));
}

v1::ListVmsResponse vms_of(const std::vector<std::pair<std::string, std::string>>& list) {
    v1::ListVmsResponse vms;
    for (const auto& [name, holder] : list) {
        v1::VmInfo& vm = *vms.add_vms();
        vm.mutable_spec()->set_name(name);
        vm.set_migration_id(holder);
    }
    return vms;
}

TEST(ChooseFleet, AllAreThoseThatNothingHolds) {
    const auto fleet = choose_fleet({}, vms_of({{"a", ""}, {"b", "m-1"}, {"c", ""}}));
    ASSERT_TRUE(fleet.ok());
    EXPECT_THAT(fleet->names, ElementsAre("a", "c"));
    ASSERT_EQ(fleet->left_out.size(), 1U);
    EXPECT_EQ(left_out_text(fleet->left_out[0]), "b is in use by m-1");
}

TEST(ChooseFleet, NamedOnesAreTakenInTheirOrderThoughSomethingHoldsThem) {
    const auto fleet = choose_fleet({"b", "a"}, vms_of({{"a", ""}, {"b", "m-1"}, {"c", ""}}));
    ASSERT_TRUE(fleet.ok());
    EXPECT_THAT(fleet->names, ElementsAre("b", "a"));
}

constexpr const char* kUuidOfA = "6f6b1d2e-0000-4000-8000-00000000000a";
constexpr const char* kUuidOfB = "6f6b1d2e-0000-4000-8000-00000000000b";

v1::ListVmsResponse two_with_uuids() {
    v1::ListVmsResponse vms = vms_of({{"a", ""}, {"b", ""}});
    vms.mutable_vms(0)->mutable_spec()->set_uuid(kUuidOfA);
    vms.mutable_vms(1)->mutable_spec()->set_uuid(kUuidOfB);
    return vms;
}

TEST(ChooseFleet, AUuidNamesAVmHoweverItIsWritten) {
    for (const char* uuid :
         {kUuidOfB, "6F6B1D2E-0000-4000-8000-00000000000B", "6f6b1d2e00004000800000000000000b"}) {
        const auto fleet = choose_fleet({uuid, "a"}, two_with_uuids());
        ASSERT_TRUE(fleet.ok()) << fleet.status();
        EXPECT_THAT(fleet->names, ElementsAre("b", "a"));
    }
}

TEST(ChooseFleet, ANameThatIsAnothersUuidIsTheNamedVm) {
    v1::ListVmsResponse vms = two_with_uuids();
    vms.mutable_vms(0)->mutable_spec()->set_name(kUuidOfB);
    EXPECT_THAT(choose_fleet({kUuidOfB}, vms)->names, ElementsAre(kUuidOfB));
    EXPECT_THAT(choose_fleet({kUuidOfA, "b"}, vms)->names, ElementsAre(kUuidOfB, "b"));
}

TEST(ChooseFleet, OneVmByTwoOfItsNamesIsAnErrorThatHasBoth) {
    const absl::Status twice = choose_fleet({"b", "a", kUuidOfB}, two_with_uuids()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(twice)) << twice;
    EXPECT_THAT(std::string(twice.message()),
                HasSubstr(std::string("b and ") + kUuidOfB + " are one VM, b; nothing was begun"));
    EXPECT_FALSE(
        choose_fleet({kUuidOfA, "6F6B1D2E00004000800000000000000A"}, two_with_uuids()).ok());
}

TEST(ChooseFleet, AUuidOfNobodyAndAnEmptyOneAreUnknown) {
    const std::string nobody = "6f6b1d2e-0000-4000-8000-00000000000c";
    EXPECT_TRUE(absl::IsNotFound(choose_fleet({nobody}, two_with_uuids()).status()));
    // A VM without a UUID is not meant by a word that is none.
    EXPECT_TRUE(absl::IsNotFound(choose_fleet({"-"}, vms_of({{"a", ""}})).status()));
}

TEST(ChooseFleet, UnknownNamesAndNothingAtAllAreErrors) {
    const absl::Status unknown = choose_fleet({"a", "x", "y"}, vms_of({{"a", ""}})).status();
    EXPECT_TRUE(absl::IsNotFound(unknown));
    EXPECT_THAT(std::string(unknown.message()), HasSubstr("no VM x, y; nothing was begun"));
    EXPECT_THAT(std::string(choose_fleet({}, vms_of({})).status().message()),
                HasSubstr("this agent has no VM"));
    EXPECT_THAT(std::string(choose_fleet({}, vms_of({{"a", "m-1"}})).status().message()),
                HasSubstr("a is in use by m-1"));
}

v1::MigrateRequest request_to(const std::string& destination) {
    v1::MigrateRequest request;
    request.set_destination(destination);
    request.set_strategy("precopy");
    request.set_on_no_converge(v1::ON_NO_CONVERGE_STOP_AND_COPY);
    request.set_downtime_limit_us(200'000);
    return request;
}

v1::MigrationReport past(const std::string& destination, uint64_t when, double rate,
                         uint64_t limit = 0) {
    v1::MigrationReport report;
    report.set_migration_id("m-" + std::to_string(when));
    report.set_destination(destination);
    report.set_outcome(v1::OUTCOME_DONE);
    report.set_started_unix_ms(when);
    report.set_bandwidth_bytes_per_s(limit);
    v1::Round& round = *report.add_rounds();
    round.set_sent_bytes(100 << 20);
    round.set_wire_bytes_per_s(rate);
    v1::Round& small = *report.add_rounds();
    small.set_sent_bytes(1 << 20);
    small.set_wire_bytes_per_s(rate * 10);
    return report;
}

TEST(GuessLink, TakesTheLimitThenTheFastestOfTheLastMigrationsThereThenAnAssumption) {
    v1::ListMigrationsResponse list;
    v1::MigrateRequest request = request_to("b:1");
    EXPECT_EQ(guess_link(request, list).source, "assumed");
    *list.add_migrations() = past("b:1", 2, 2e8);
    *list.add_migrations() = past("b:1", 1, 1e8);
    *list.add_migrations() = past("c:1", 3, 3e8);
    *list.add_migrations() = past("b:1", 4, 4e8, 1 << 20);
    *list.add_migrations() = past("b:1", 5, 0);
    EXPECT_EQ(guess_link(request, list).bytes_per_s, 2e8);
    EXPECT_THAT(guess_link(request, list).source, HasSubstr("m-2"));
    request.set_bandwidth_bytes_per_s(1 << 20);
    EXPECT_EQ(guess_link(request, list).bytes_per_s, 1 << 20);
}

TEST(GuessLink, TakesNoShareOfTheLinkForTheLinkAndNothingThatIsLongAgo) {
    v1::ListMigrationsResponse list;
    *list.add_migrations() = past("b:1", 1, 9e8);
    for (uint64_t when = 2; when <= 11; ++when)
        *list.add_migrations() = past("b:1", when, when == 4 ? 4e8 : 1e8);
    const LinkGuess guess = guess_link(request_to("b:1"), list);
    EXPECT_EQ(guess.bytes_per_s, 4e8);
    EXPECT_THAT(guess.source, HasSubstr("m-4"));
}

TEST(UsualCosts, AreThoseOfTheLastMigrationsOrAssumed) {
    v1::Calibration past;
    const MigrationCosts assumed = usual_costs(past);
    EXPECT_GT(assumed.setup_s, 0);
    v1::HostPair& pair = *past.add_pairs();
    for (const double ms : {400, 500, 600}) {
        v1::FixedCosts& costs = *pair.add_migrations()->mutable_costs();
        costs.set_setup_ms(ms);
        costs.set_pause_ms(ms / 100);
    }
    v1::CalibrationEntry& verified = *pair.add_migrations();
    verified.set_verified(true);
    verified.mutable_costs()->set_setup_ms(9000);
    const MigrationCosts costs = usual_costs(past);
    EXPECT_DOUBLE_EQ(costs.setup_s, 0.5);
    EXPECT_DOUBLE_EQ(costs.pause_s, 0.005);
    EXPECT_EQ(costs.per_round_s, assumed.per_round_s) << "none of them tells";
}

constexpr MigrationCosts kSomeCosts{.setup_s = 0.1, .per_round_s = 0.002, .pause_s = 0.008};

// Touches `gib`, and writes `pages_per_s` distinct pages up to all of it.
FleetSample sample(const std::string& vm, double gib, double pages_per_s) {
    v1::DirtyRate rate;
    const double pages = gib * (1 << 18);
    rate.set_touched_bytes(static_cast<uint64_t>(pages) * kPageBytes);
    for (const double window_s : {0.1, 0.3, 1.0}) {
        v1::DirtyRatePoint& point = *rate.add_points();
        point.set_window_ms(window_s * 1e3);
        point.set_dirty_pages(static_cast<uint64_t>(std::min(pages, pages_per_s * window_s)));
    }
    return {.vm = vm, .memory_bytes = Bytes{8} << 30, .rate = rate};
}

TEST(PlainOrder, IsTheOrderGivenWithAsManyAtATimeAsAsked) {
    const std::vector<std::string> vms = {"c", "a", "b"};
    EXPECT_EQ(plain_order(vms, true, 0).at_a_time, 1U);
    EXPECT_EQ(plain_order(vms, false, 0).at_a_time, 3U);
    EXPECT_EQ(plain_order(vms, false, 2).at_a_time, 2U);
    EXPECT_EQ(plain_order(vms, false, 9).at_a_time, 3U);
    EXPECT_THAT(plain_order(vms, true, 0).vms, ElementsAre("c", "a", "b"));
    EXPECT_EQ(plain_order(std::vector<std::string>(100, "x"), false, 0).at_a_time, kMostAtATime);
}

TEST(GangOrder, IsAllAtOnce) {
    const auto order = gang_order({.names = {"c", "a", "b"}});
    ASSERT_TRUE(order.ok());
    EXPECT_EQ(order->at_a_time, 3U);
    EXPECT_TRUE(order->is_gang);
    EXPECT_THAT(order->vms, ElementsAre("c", "a", "b"));
    const FleetVms many{.names = std::vector<std::string>(kMostAtATime + 1, "x")};
    EXPECT_TRUE(absl::IsInvalidArgument(gang_order(many).status()));
}

TEST(GangOrder, GoesWithoutNobody) {
    const absl::Status left =
        gang_order({.names = {"a", "c"}, .left_out = {{.vm = "b", .holder = "m-1"}}}).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(left));
    EXPECT_THAT(std::string(left.message()), HasSubstr("b is in use by m-1"));
}

TEST(AutoOrder, HasIdleVmsAtOnceAndBusyOnesOneByOne) {
    // 1 Gb/s is 30,517 pages/s: two VMs that write 20,000 each converge only alone.
    const LinkGuess gigabit{.bytes_per_s = 1.25e8, .source = "assumed"};
    std::vector<FleetSample> idle;
    std::vector<FleetSample> busy;
    for (const char* name : {"a", "b", "c"}) {
        idle.push_back(sample(name, 1, 0));
        busy.push_back(sample(name, 1, 20'000));
    }
    const auto of_idle = auto_order(idle, request_to("b:1"), gigabit, kSomeCosts, 0);
    const auto of_busy = auto_order(busy, request_to("b:1"), gigabit, kSomeCosts, 0);
    ASSERT_TRUE(of_idle.ok() && of_busy.ok());
    EXPECT_GT(of_idle->at_a_time, 1U) << "starts overlap";
    EXPECT_EQ(of_busy->at_a_time, 1U);
    EXPECT_THAT(of_idle->vms, UnorderedElementsAre("a", "b", "c"));
    EXPECT_GT(of_idle->expected_s.value(), 3 * 1.07e9 / 1.25e8);
    EXPECT_TRUE(std::isfinite(of_busy->expected_s.value()));
    EXPECT_THAT(of_idle->reason, HasSubstr("assumed"));
}

TEST(AutoOrder, ExpectsDeadlinesToBeHeld) {
    // 10 GiB at 1 Gb/s, rewritten all the time: ten rounds and more, or 2 minutes.
    const LinkGuess gigabit{.bytes_per_s = 1.25e8, .source = "assumed"};
    const std::vector<FleetSample> busy = {sample("a", 10, 200'000)};
    v1::MigrateRequest request = request_to("b:1");
    const auto without = auto_order(busy, request, gigabit, kSomeCosts, 0);
    request.set_finish_by_ms(100'000);
    const auto with = auto_order(busy, request, gigabit, kSomeCosts, 0);
    ASSERT_TRUE(without.ok() && with.ok());
    EXPECT_GT(without->expected_s.value(), 110);
    EXPECT_LE(with->expected_s.value(), 100);
    request.set_finish_by_ms(UINT64_MAX);
    EXPECT_TRUE(auto_order(busy, request, gigabit, kSomeCosts, 0).ok());
}

TEST(AutoOrder, NeverHasMoreAtATimeThanAsked) {
    std::vector<FleetSample> idle;
    for (int i = 0; i < 6; ++i) idle.push_back(sample("vm" + std::to_string(i), 1, 0));
    const auto order = auto_order(idle, request_to("b:1"), {.bytes_per_s = 1.25e8}, kSomeCosts, 2);
    ASSERT_TRUE(order.ok());
    EXPECT_LE(order->at_a_time, 2U);
    EXPECT_EQ(order->vms.size(), 6U);
}

TEST(AutoOrder, TakesAVmThatCouldNotBeMeasuredAsFullAndIdle) {
    const std::vector<FleetSample> samples = {
        {.vm = "a", .memory_bytes = Bytes{4} << 30, .rate = absl::UnknownError("held")},
        sample("b", 1, 0)};
    const auto order =
        auto_order(samples, request_to("b:1"), {.bytes_per_s = 1.25e8}, kSomeCosts, 0);
    ASSERT_TRUE(order.ok());
    EXPECT_THAT(order->vms, UnorderedElementsAre("a", "b"));
    EXPECT_GT(order->expected_s.value(), 5 * 1.07e9 / 1.25e8);
}

TEST(AutoOrder, HasNoNanForVmsThatTouchNothingOrSamplesThatMakeNoSense) {
    FleetSample odd = sample("b", 1, 0);
    odd.rate->mutable_points(0)->set_window_ms(-1);
    odd.rate->mutable_points(1)->set_window_ms(std::nan(""));
    const auto order = auto_order(std::vector<FleetSample>{sample("a", 0, 0), odd},
                                  request_to("b:1"), {.bytes_per_s = 1.25e8}, kSomeCosts, 0);
    ASSERT_TRUE(order.ok()) << order.status().message();
    EXPECT_TRUE(std::isfinite(order->expected_s.value()));
}

}  // namespace
}  // namespace godwit
