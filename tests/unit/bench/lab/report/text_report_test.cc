#include "bench/lab/report/text_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/report/html_report.h"
#include "bench/lab/report/report_data.h"
#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextReport, MarkdownHasMediansQuartilesRatiosAndTargets) {
    const std::string text = markdown_report(report_data(sample_results()));
    EXPECT_THAT(text, HasSubstr("| godwit-precopy | 5 | 12.0 [11.0 13.0] ×0.55 (-1.00) |"));
    EXPECT_THAT(text, HasSubstr("| qemu-preempt | skipped: no such thing |"));
    EXPECT_THAT(text, HasSubstr("| floor | failed: it broke |"));
    EXPECT_THAT(text, HasSubstr("| ≥ 2.5 | 1.83 | 5, 5 | missed |"));
    EXPECT_THAT(text, HasSubstr("| ≤ 8 | 5.00 | 5 | met |"));
    EXPECT_THAT(text, HasSubstr("1 Gb/s"));
    EXPECT_THAT(text, HasSubstr("× is the ratio to qemu-multifd."));
}

TEST(TextReport, CsvHasALineForEachMetricOfEachRow) {
    const std::string text = csv_report(report_data(sample_results()));
    EXPECT_THAT(text, HasSubstr("dense,godwit-precopy,total_ms,5,12.0,11.0,13.0,10.0,14.0,0.54"));
    EXPECT_THAT(text, HasSubstr("dense,qemu-precopy,cpu_s,5,"));
    EXPECT_THAT(text, Not(HasSubstr("floor")));
}

TEST(TextReport, ATerminalGetsTheTargets) {
    const std::string text = target_table(report_data(sample_results()));
    EXPECT_THAT(text, HasSubstr("missed"));
    EXPECT_THAT(text, HasSubstr("total_ms: qemu-multifd / godwit-precopy"));
}

TEST(TextReport, SaysOfATargetHowManyRunsFailed) {
    ResultFile results = sample_results();
    results.scenarios[0].rows[0].failed = 1;
    const auto data = report_data(results);
    EXPECT_THAT(markdown_report(data), HasSubstr("| missed (1 of 6 failed) |"));
    EXPECT_THAT(target_table(data), HasSubstr("missed (1 of 6 failed)"));
}

TEST(HtmlReport, DataCannotEndItsScript) {
    const std::string text = script_json({{"cpu", "</script><!--"}});
    EXPECT_THAT(text, Not(HasSubstr("<")));
    EXPECT_EQ(nlohmann::json::parse(text)["cpu"], "</script><!--");
}

TEST(HtmlReport, SaysHowAMissingPartIsMade) {
    EXPECT_THAT(std::string(html_report({}, "/nonexistent").status().message()),
                HasSubstr("./dev build"));
}

}  // namespace
}  // namespace godwit
