#include "tools/godwitd/calibration_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace godwit {
namespace {

using ::testing::HasSubstr;

class CalibrationFileTest : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string made = ::testing::TempDir() + "calibration-XXXXXX";
        ASSERT_NE(::mkdtemp(made.data()), nullptr);
        folder = made;
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    [[nodiscard]] std::string path() const { return folder + "/calibration.json"; }

    std::string folder;
};

// 100,000 pages in round 0, a small round, the last pages in the pause.
v1::MigrationReport report_of(const std::string& id) {
    v1::MigrationReport report;
    report.set_migration_id(id);
    report.set_vm("web");
    report.set_engine("godwit");
    report.set_strategy("precopy");
    report.set_outcome(v1::OUTCOME_DONE);
    report.set_destination("10.0.0.2:7654");
    report.set_total_ms(5000);
    report.set_downtime_ms(20);
    report.mutable_downtime()->set_last_pages_ms(5);
    report.set_wire_bytes(300'000'000);
    const auto add = [&](uint64_t pages, double ms) {
        v1::Round& round = *report.add_rounds();
        round.set_dirty_pages(pages);
        round.set_duration_ms(ms);
        return &round;
    };
    add(100'000, 4096);
    add(100, 44);
    add(10, 5)->set_frozen(true);
    return report;
}

v1::Plan plan_of(double total_ms) {
    v1::Plan plan;
    plan.set_vm("web");
    plan.set_destination("10.0.0.2:7654");
    plan.set_downtime_limit_ms(50);
    plan.mutable_measured()->set_rate_share(0.5);
    v1::PlanRow& row = *plan.add_rows();
    row.set_strategy("precopy");
    row.set_rounds(2);
    row.set_converges(true);
    row.mutable_total_ms()->set_mid(total_ms);
    row.mutable_downtime_ms()->set_mid(25);
    row.mutable_wire_bytes()->set_mid(3e8);
    row.set_page_rate_bytes_per_s(1e8);
    return plan;
}

MigrationSettings settings_of() {
    return {.destination = {"10.0.0.2", 7654}, .limits = {.strategy = Strategy::kPrecopy}};
}

TEST(CalibrationEntry, TakesAReportApart) {
    const auto entry = calibration_entry(report_of("m-1"));
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->page_rate_bytes_per_s(), 1e8);
    EXPECT_DOUBLE_EQ(entry->costs().pause_ms(), 15);
    EXPECT_DOUBLE_EQ(entry->costs().setup_ms(), 5000 - 4096 - 44 - 20) << "no frozen round";
    EXPECT_NEAR(entry->costs().per_round_ms(), 44 - 4.096, 1e-9);
    EXPECT_FALSE(entry->costs().has_fault_us());
    EXPECT_FALSE(past_migration(*entry).total_error) << "nothing was predicted";
    EXPECT_TRUE(past_migration(*entry).pause_s);
}

TEST(CalibrationEntry, WhatARoundCostsIsToldByASmallOneOnly) {
    v1::MigrationReport report = report_of("m-1");
    report.mutable_rounds(1)->set_dirty_pages(1894);
    EXPECT_FALSE(calibration_entry(report)->costs().has_per_round_ms());
}

TEST(CalibrationEntry, IsMadeOnlyOfWhatGodwitDid) {
    for (const auto change :
         {+[](v1::MigrationReport& report) { report.set_engine("native"); },
          +[](v1::MigrationReport& report) { report.set_outcome(v1::OUTCOME_FAILED); }}) {
        v1::MigrationReport report = report_of("m-1");
        change(report);
        EXPECT_FALSE(calibration_entry(report));
    }
}

TEST(CalibrationEntry, OfAVerifiedMigrationTeachesNothing) {
    v1::MigrationReport report = report_of("m-1");
    report.set_verify_ms(700);
    const auto entry = calibration_entry(report);
    EXPECT_EQ(entry->total_ms(), 4300);
    EXPECT_FALSE(past_migration(*entry).pause_s);
}

TEST_F(CalibrationFileTest, APlanIsTheExpectationOfTheMigrationThatFollowsIt) {
    CalibrationFile file(folder);
    file.expect(plan_of(9000));
    file.expect(plan_of(4000));
    MigrationSettings other = settings_of();
    other.bandwidth_bytes_per_s = 1 << 20;
    EXPECT_FALSE(file.take_expected("web", other));
    EXPECT_FALSE(file.take_expected("mail", settings_of()));
    other = settings_of();
    other.limits.downtime_limit = std::chrono::milliseconds(51);
    EXPECT_FALSE(file.take_expected("web", other));
    const auto expected = file.take_expected("web", settings_of());
    ASSERT_TRUE(expected);
    EXPECT_EQ(expected->predicted_by(), "plan");
    EXPECT_EQ(expected->total_ms().mid(), 4000) << "the newest";
    EXPECT_EQ(expected->page_rate_bytes_per_s(), 2e8) << "as the probe promised it";
}

TEST_F(CalibrationFileTest, APlanThatGaveUpIsNoExpectationOfOneThatDidNot) {
    CalibrationFile file(folder);
    v1::Plan plan = plan_of(4000);
    plan.mutable_rows(0)->set_converges(false);
    file.expect(plan);
    EXPECT_FALSE(file.take_expected("web", settings_of()));
    plan.mutable_rows(0)->set_strategy("hybrid");
    file.expect(plan);
    MigrationSettings settings = settings_of();
    settings.limits.strategy = Strategy::kHybrid;
    settings.limits.on_no_converge = NoConverge::kPostcopy;
    EXPECT_TRUE(file.take_expected("web", settings));
}

TEST_F(CalibrationFileTest, OutlivesTheAgentAndTeachesErrors) {
    {
        CalibrationFile file(folder);
        file.expect(plan_of(4000));
        v1::MigrationReport report = report_of("m-1");
        *report.mutable_prediction() = *file.take_expected("web", settings_of());
        file.note(report);
    }
    CalibrationFile file(folder);
    EXPECT_FALSE(std::filesystem::exists(path() + ".new"));
    ASSERT_EQ(file.history("").pairs_size(), 1);
    EXPECT_EQ(file.history("10.0.0.9:1").pairs_size(), 0);
    const v1::HostPair pair = file.history("10.0.0.2:7654").pairs(0);
    ASSERT_EQ(pair.migrations_size(), 1);
    EXPECT_EQ(pair.migrations(0).predicted().total_ms().mid(), 4000);
    EXPECT_EQ(pair.migrations(0).total_ms(), 5000);
    const std::vector<PastMigration> past = file.past("10.0.0.2:7654");
    ASSERT_EQ(past.size(), 1u);
    EXPECT_DOUBLE_EQ(*past[0].total_error, 1.25);
    EXPECT_DOUBLE_EQ(*past[0].downtime_error, 0.8);
    EXPECT_DOUBLE_EQ(*past[0].wire_error, 1);
    EXPECT_DOUBLE_EQ(*past[0].rate_share, 0.5);
    EXPECT_TRUE(file.past("10.0.0.9:1").empty());
}

TEST(CalibrationEntry, KnowsWhetherThePagesWentPacked) {
    v1::MigrationReport report = report_of("m-1");
    EXPECT_FALSE(calibration_entry(report)->packed());
    report.mutable_pages()->set_raw(100);
    report.mutable_pages()->set_lz4(101);
    EXPECT_TRUE(calibration_entry(report)->packed());
    report.mutable_pages()->set_raw(102);
    report.mutable_pages()->set_zstd(2);
    EXPECT_TRUE(calibration_entry(report)->packed());
    report.mutable_pages()->clear_zstd();
    EXPECT_FALSE(calibration_entry(report)->packed());
    // The pages of a drain are not counted by kind.
    report.clear_pages();
    v1::Postcopy& drain = *report.mutable_postcopy();
    drain.set_used(true);
    drain.set_missing_pages(100'000);
    drain.set_zeroed_pages(50'000);
    report.set_wire_bytes(100'000'000);
    EXPECT_TRUE(calibration_entry(report)->packed());
    report.set_wire_bytes(200'000'000);
    EXPECT_FALSE(calibration_entry(report)->packed());
}

TEST_F(CalibrationFileTest, TheRateOfPackedPagesIsHeldAgainstItsOwnPromise) {
    CalibrationFile file(folder);
    v1::Plan plan = plan_of(4000);
    plan.mutable_rows(0)->set_codec("lz4");
    plan.mutable_measured()->set_lz4_wire_share(0.5);
    plan.mutable_measured()->set_packed_rate_share(0.8);
    file.expect(plan);
    v1::MigrationReport report = report_of("m-1");
    report.mutable_pages()->set_lz4(100'000);
    *report.mutable_prediction() = *file.take_expected("web", settings_of());
    EXPECT_DOUBLE_EQ(report.prediction().page_rate_bytes_per_s(), 1e8 / 0.8);
    file.note(report);
    const std::vector<PastMigration> past = file.past("10.0.0.2:7654");
    ASSERT_EQ(past.size(), 1u);
    EXPECT_FALSE(past[0].rate_share);
    EXPECT_DOUBLE_EQ(*past[0].packed_rate_share, 0.8);
    plan.mutable_rows(0)->set_codec("zstd");
    plan.mutable_measured()->set_zstd_wire_share(0.3);
    file.expect(plan);
    EXPECT_DOUBLE_EQ(file.take_expected("web", settings_of())->page_rate_bytes_per_s(), 1e8 / 0.8);
    // What does not shrink goes raw, whatever the plan calls it.
    plan.mutable_rows(0)->set_codec("lz4");
    plan.mutable_measured()->set_lz4_wire_share(0.99);
    file.expect(plan);
    EXPECT_DOUBLE_EQ(file.take_expected("web", settings_of())->page_rate_bytes_per_s(), 1e8 / 0.5);
}

TEST_F(CalibrationFileTest, KeepsTheNewestOfEachPairAndThePairsInUse) {
    CalibrationFile file(folder);
    for (int i = 0; i < CalibrationFile::kMostMigrations + 5; ++i)
        file.note(report_of(fmt::format("m-{}", i)));
    EXPECT_EQ(file.history("").pairs(0).migrations_size(), CalibrationFile::kMostMigrations);
    EXPECT_EQ(file.history("").pairs(0).migrations(0).migration_id(), "m-5");
    for (int i = 0; i < CalibrationFile::kMostPairs; ++i) {
        v1::MigrationReport report = report_of("m");
        report.set_destination(fmt::format("10.0.1.{}:7654", i));
        file.note(report);
    }
    EXPECT_EQ(file.history("").pairs_size(), CalibrationFile::kMostPairs);
    EXPECT_EQ(file.history("10.0.0.2:7654").pairs_size(), 0) << "used longest ago";
    EXPECT_EQ(CalibrationFile(folder).history("").pairs_size(), CalibrationFile::kMostPairs);
}

TEST_F(CalibrationFileTest, IsBegunAnewWhereItCanNotBeRead) {
    for (const std::string text :
         {R"({"version":1,"pairs":[)", R"({"version":7})", R"({})", "",
          R"({"version":1,"pairs":[{"migrations":[{"total_ms":"NaN"}]}]})",
          R"({"version":1,"pairs":[{"migrations":[{"costs":{"pause_ms":"Infinity"}}]}]})"}) {
        EXPECT_FALSE(decode_calibration(text).ok()) << text;
        std::ofstream(path()) << text;
        CalibrationFile file(folder);
        EXPECT_EQ(file.history("").pairs_size(), 0);
        file.note(report_of("m-1"));
        EXPECT_EQ(CalibrationFile(folder).history("").pairs_size(), 1);
    }
    EXPECT_THAT(decode_calibration(R"({"version":7})").status().message(), HasSubstr("version 7"));
}

TEST_F(CalibrationFileTest, ThatCanNotBeWrittenHarmsNothing) {
    CalibrationFile file(folder + "/nowhere");
    file.note(report_of("m-1"));
    EXPECT_EQ(file.history("").pairs_size(), 1);
}

}  // namespace
}  // namespace godwit
