#include "tools/godwitd/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/report/json.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// 4 GiB, a quarter of it zeros, over 1 Gb/s, and a guest that writes `pages` over and over.
PlanFacts facts_for(double pages) {
    return {.link = {.rate = {.low = 1.1e8, .mid = 1.2e8, .high = 1.25e8},
                     .stream_rate = 1.2e8,
                     .streams = 4,
                     .round_trip_s = 0.0005,
                     .cpu_s_per_wire_byte = 1e-9,
                     .destination_cpus = 8},
            .ram = {.touched_pages = 1 << 20,
                    .sampled_pages = 1 << 15,
                    .zero_share = 0.25,
                    .read_cpu_s_per_byte = 1e-10,
                    .lz4 = {.wire_share = 0.5,
                            .pack_cpu_s_per_byte = 5e-10,
                            .unpack_cpu_s_per_byte = 2e-10}},
            .samples = {{0.08, pages}, {0.3, pages}, {1, pages}, {10, pages}},
            .source_cpus = 8};
}

PlanSettings settings_for(uint64_t downtime_limit_us = 0, uint64_t finish_by_ms = 0,
                          uint64_t bandwidth = 0) {
    v1::PlanRequest request;
    request.set_destination("10.0.0.2:7654");
    request.set_downtime_limit_us(downtime_limit_us);
    request.set_finish_by_ms(finish_by_ms);
    request.set_bandwidth_bytes_per_s(bandwidth);
    const auto settings = plan_settings(request);
    EXPECT_TRUE(settings.ok()) << settings.status();
    return *settings;
}

v1::Plan plan_for(const PlanFacts& facts, const PlanSettings& settings,
                  const std::vector<PastMigration>& past = {}) {
    v1::Plan plan;
    const absl::Status status = fill_plan(facts, past, settings, plan);
    EXPECT_TRUE(status.ok()) << status;
    const std::string text = to_json(plan).dump();
    EXPECT_EQ(text.find("null"), std::string::npos) << "a number that is none: " << text;
    return plan;
}

TEST(Plan, OfAGuestOnHugePagesThatWritesHereAndThereHasTheLongerDrain) {
    // A twentieth of its memory, in each window; at random in a window of 80 ms.
    PlanFacts facts = facts_for(1 << 16);
    facts.samples = {{.window_s = 0.08, .pages = 1 << 16, .runs = 61'000, .chunks = 2'048},
                     {.window_s = 10, .pages = 1 << 16, .runs = 61'000, .chunks = 2'048}};
    const auto hybrid = [&] {
        const v1::Plan plan = plan_for(facts, settings_for());
        for (const v1::PlanRow& row : plan.rows())
            if (row.strategy() == "hybrid") return row;
        ADD_FAILURE() << "no row for hybrid";
        return v1::PlanRow();
    };
    const v1::PlanRow small = hybrid();
    facts.backing = Backing::kTmpfsHuge;
    const v1::PlanRow huge = hybrid();
    EXPECT_EQ(huge.downtime_ms().mid(), small.downtime_ms().mid());
    EXPECT_GT(huge.page_bytes().mid(), 1.5 * small.page_bytes().mid());
    EXPECT_GT(huge.total_ms().mid(), 1.3 * small.total_ms().mid());
}

TEST(Plan, HasARowForEachStrategyAndAnAnswer) {
    const v1::Plan plan = plan_for(facts_for(1000), settings_for());
    ASSERT_EQ(plan.rows_size(), 4);
    EXPECT_EQ(plan.chosen(), "precopy");
    EXPECT_THAT(plan.sentence(), StartsWith("precopy with lz4 on 2 streams"))
        << "one would wait for the destination's unpacking";
    const v1::PlanRow& row = plan.rows(1);
    EXPECT_TRUE(row.converges());
    EXPECT_EQ(row.codec(), "lz4");
    // A quarter are zeros, of the rest lz4 leaves half; none of what is written meanwhile is zero.
    EXPECT_NEAR(plan.rows(0).wire_bytes().mid(), plan.rows(0).page_bytes().mid() * 0.75 * 0.5, 1);
    EXPECT_GT(row.wire_bytes().mid(), plan.rows(0).wire_bytes().mid());
    EXPECT_LT(row.wire_bytes().mid(), row.page_bytes().mid() * 0.5);
    EXPECT_LE(row.total_ms().low(), row.total_ms().mid());
    EXPECT_LT(row.total_ms().mid(), row.total_ms().high());
    EXPECT_GT(row.cpu_s().mid(), 0);
    EXPECT_EQ(plan.measured().costs_from_migrations(), 0u);
}

TEST(Plan, ForeseesZstdOnlyWhereItSavesEnoughOverLz4) {
    PlanFacts facts = facts_for(1000);
    facts.ram.zstd = {
        .wire_share = 0.3, .pack_cpu_s_per_byte = 15e-10, .unpack_cpu_s_per_byte = 8e-10};
    const v1::Plan plan = plan_for(facts, settings_for());
    EXPECT_EQ(plan.rows(1).codec(), "zstd");
    EXPECT_THAT(plan.rows(1).choice(), HasSubstr("lz4 at best"));
    EXPECT_NEAR(plan.rows(0).wire_bytes().mid(), plan.rows(0).page_bytes().mid() * 0.75 * 0.3, 1);
    EXPECT_DOUBLE_EQ(plan.measured().zstd_wire_share(), 0.3);
    EXPECT_NEAR(plan.measured().zstd_cpu_s_per_gib(), 23e-10 * (1 << 30), 1e-9);
    // A twentieth less on the wire is not worth the CPU.
    facts.ram.zstd.wire_share = 0.475;
    EXPECT_EQ(plan_for(facts, settings_for()).rows(1).codec(), "lz4");
    // On a fast link zstd would hold the streams up.
    facts.ram.zstd.wire_share = 0.3;
    facts.link.rate = {.low = 1.1e9, .mid = 1.2e9, .high = 1.25e9};
    facts.link.stream_rate = 1.2e9;
    EXPECT_NE(plan_for(facts, settings_for()).rows(1).codec(), "zstd");
}

TEST(Plan, WithLimitsIsAYesOrANoWithItsReason) {
    EXPECT_THAT(plan_for(facts_for(1000), settings_for(100'000)).sentence(), StartsWith("yes: "));
    const v1::Plan no = plan_for(facts_for(1000), settings_for(100'000, 1000));
    EXPECT_EQ(no.chosen(), "");
    EXPECT_THAT(no.sentence(), StartsWith("no: "));
    EXPECT_THAT(no.sentence(), HasSubstr("limit 1.0 s"));
    const v1::Plan absurd = plan_for(facts_for(1000), settings_for(1));
    EXPECT_THAT(absurd.sentence(), HasSubstr("device state and resume alone take"));
}

TEST(Plan, WithoutLimitsAlwaysHasAnAnswer) {
    PlanFacts facts = facts_for(500'000);
    facts.link.round_trip_s = 0.2;  // no pause is short here
    const v1::Plan plan = plan_for(facts, settings_for());
    EXPECT_EQ(plan.chosen(), "hybrid");
    EXPECT_THAT(plan.sentence(), HasSubstr("nothing keeps the pause within 50 ms"));
    EXPECT_FALSE(plan.rows(1).converges());
    EXPECT_THAT(plan.rows(1).verdict(), HasSubstr("will not converge"));
}

TEST(Plan, LearnsCostsRatesAndErrorsFromThePair) {
    const v1::Plan before = plan_for(facts_for(1000), settings_for());
    const std::vector<PastMigration> past(
        3, {.setup_s = 2, .pause_s = 0.03, .total_error = 1.5, .rate_share = 0.5});
    const v1::Plan after = plan_for(facts_for(1000), settings_for(), past);
    EXPECT_EQ(after.measured().costs_from_migrations(), 3u);
    EXPECT_DOUBLE_EQ(after.measured().costs().pause_ms(), 30);
    EXPECT_DOUBLE_EQ(after.measured().rate_share(), 0.5);
    EXPECT_NEAR(after.rows(1).page_rate_bytes_per_s(), before.rows(1).page_rate_bytes_per_s() / 2,
                1e6);
    EXPECT_NEAR(after.rows(1).total_ms().high(), 1.5 * after.rows(1).total_ms().mid(), 1e-6);
    // A limit on the bandwidth is no promise that can be missed by half.
    const v1::Plan limited = plan_for(facts_for(1000), settings_for(0, 0, 50'000'000), past);
    EXPECT_NEAR(limited.rows(1).page_rate_bytes_per_s(), 50e6 / (0.75 * 0.5), 1);
}

TEST(Plan, ReckonsWithTheRateThatPackedPagesReached) {
    const v1::Plan before = plan_for(facts_for(1000), settings_for());
    const std::vector<PastMigration> past = {{.rate_share = 1.0}, {.packed_rate_share = 0.7}};
    const v1::Plan after = plan_for(facts_for(1000), settings_for(), past);
    EXPECT_DOUBLE_EQ(after.measured().packed_rate_share(), 0.7);
    EXPECT_EQ(after.rows(1).codec(), "lz4");
    EXPECT_NEAR(after.rows(1).page_rate_bytes_per_s(), before.rows(1).page_rate_bytes_per_s() * 0.7,
                1);
    // Pages that do not shrink go raw.
    PlanFacts noise = facts_for(1000);
    noise.ram.lz4.wire_share = 0.99;
    EXPECT_EQ(plan_for(noise, settings_for(), past).rows(1).page_rate_bytes_per_s(),
              plan_for(noise, settings_for()).rows(1).page_rate_bytes_per_s());
}

TEST(Plan, AGuestThatNeverRestsWritesFasterWhatItNeedNotFaultFor) {
    PlanFacts facts = facts_for(0);
    facts.samples.clear();
    for (const double window_s : {0.1, 0.5, 1.0, 10.0})
        facts.samples.push_back({window_s, std::min(window_s * 40'000, 400'000.0)});
    const PairKnowledge knowledge{.costs = default_costs(facts.link)};
    facts.vcpu_busy_share = 0.5;
    EXPECT_EQ(plan_input(facts, knowledge, settings_for()).first_write_s, 0);
    const double resting = plan_for(facts, settings_for()).rows(1).total_ms().mid();
    facts.vcpu_busy_share = 0.99;
    EXPECT_GT(plan_input(facts, knowledge, settings_for()).first_write_s, 0);
    const v1::Plan plan = plan_for(facts, settings_for());
    EXPECT_GT(plan.rows(1).total_ms().mid(), resting);
    EXPECT_DOUBLE_EQ(plan.measured().vcpu_busy_share(), 0.99);
}

TEST(Plan, OfAnIdleOrEmptyGuestIsFinite) {
    plan_for(facts_for(0), settings_for());
    PlanFacts zeros = facts_for(0);
    zeros.ram.zero_share = 1;
    zeros.ram.lz4 = {};
    zeros.ram.read_cpu_s_per_byte = 0;
    plan_for(zeros, settings_for());
}

TEST(Plan, OfWhatCanNotBeIsAnError) {
    v1::Plan plan;
    PlanFacts facts = facts_for(1000);
    facts.samples.clear();
    EXPECT_THAT(fill_plan(facts, {}, settings_for(), plan).message(), HasSubstr("no dirty data"));
    facts = facts_for(1000);
    facts.link.rate = exactly(std::numeric_limits<double>::quiet_NaN());
    EXPECT_FALSE(fill_plan(facts, {}, settings_for(), plan).ok());
}

TEST(PlanSettings, AreWhatWasAskedForOrAnError) {
    v1::PlanRequest request;
    request.set_destination("10.0.0.2:7654");
    const auto usual = plan_settings(request);
    ASSERT_TRUE(usual.ok()) << usual.status();
    EXPECT_EQ(usual->sample, std::chrono::seconds(10));
    EXPECT_EQ(usual->limits.downtime_limit, std::chrono::milliseconds(50));
    EXPECT_FALSE(usual->limits_given);
    const auto refused = [&](auto change) {
        v1::PlanRequest bad = request;
        change(bad);
        return std::string(plan_settings(bad).status().message());
    };
    EXPECT_THAT(refused([](auto& bad) { bad.set_destination("nowhere"); }), HasSubstr("nowhere"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_sample_us(1); }), HasSubstr("sample_us"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_sample_us(UINT64_MAX); }), HasSubstr("sample_us"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_downtime_limit_us(UINT64_MAX); }),
                HasSubstr("downtime_limit_us"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_finish_by_ms(UINT64_MAX); }),
                HasSubstr("finish_by_ms"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_bandwidth_bytes_per_s(1); }),
                HasSubstr("bandwidth_bytes_per_s"));
    EXPECT_THAT(refused([](auto& bad) { bad.set_tracker("tea-leaves"); }), HasSubstr("tea-leaves"));
}

}  // namespace
}  // namespace godwit
