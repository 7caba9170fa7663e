// The page in a browser: that it draws what it has, and complains of nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "bench/lab/child.h"
#include "bench/lab/report/html_report.h"
#include "bench/lab/report/report_data.h"
#include "bench/lab/scratch.h"
#include "engine/guest/qemu/process.h"
#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ReportPage : public ::testing::TestWithParam<const char*> {};

TEST_P(ReportPage, ShowsItsDataWithoutAComplaintOfTheConsole) {
    const auto chromium = find_program("chromium");
    if (!chromium.ok()) GTEST_SKIP() << "there is no chromium (Debian package chromium)";
    const auto page = html_report(report_data(sample_results()), GODWIT_LAB_ASSETS);
    if (absl::IsNotFound(page.status())) GTEST_SKIP() << page.status().message();
    ASSERT_TRUE(page.ok()) << page.status();
    const auto scratch = Scratch::create("/tmp");
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    std::ofstream(scratch->path() + "/report.html") << *page;

    auto browser = Child::start(
        {*chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--enable-logging=stderr", "--user-data-dir=" + scratch->path() + "/profile",
         "--window-size=1300,3000", "--virtual-time-budget=5000", "--dump-dom",
         "file://" + scratch->path() + "/report.html?theme=" + GetParam()});
    ASSERT_TRUE(browser.ok()) << browser.status();
    const auto status = browser->wait(Clock::system().now() + std::chrono::seconds(100), -1);
    ASSERT_TRUE(status.ok()) << status.status() << browser->err();
    const std::string shown = browser->out();
    EXPECT_THAT(browser->err(), Not(HasSubstr("CONSOLE"))) << browser->err();
    EXPECT_NE(shown.find("data-charts=\"9\""), std::string::npos);
    EXPECT_NE(shown.find("<canvas"), std::string::npos);
    EXPECT_NE(shown.find("foretold after the first round"), std::string::npos);
    EXPECT_NE(shown.find("Targets: 1 of 3 met"), std::string::npos);
    EXPECT_NE(shown.find("skipped: no such thing"), std::string::npos);
    EXPECT_NE(shown.find(std::string("data-theme=\"") + GetParam()), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Themes, ReportPage, ::testing::Values("light", "dark"));

}  // namespace
}  // namespace godwit
