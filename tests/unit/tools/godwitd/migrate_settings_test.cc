#include "tools/godwitd/migrate_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace godwit {
namespace {

using testing::HasSubstr;

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

v1::MigrateRequest request() {
    v1::MigrateRequest request;
    request.set_vm("web");
    request.set_destination("10.0.0.2:7654");
    return request;
}

std::string refusal(const v1::MigrateRequest& request) {
    const auto settings = migrate_settings(request);
    EXPECT_TRUE(absl::IsInvalidArgument(settings.status())) << settings.status();
    return std::string(settings.status().message());
}

TEST(MigrateSettings, AnEmptyRequestMeansTheDefaults) {
    const auto settings = migrate_settings(request());
    ASSERT_TRUE(settings.ok()) << settings.status();
    EXPECT_EQ(settings->id, "");
    EXPECT_EQ(settings->limits.strategy, Strategy::kHybrid);
    EXPECT_EQ(settings->limits.on_no_converge, NoConverge::kPostcopy);
    EXPECT_EQ(settings->limits.downtime_limit, ConvergenceLimits{}.downtime_limit);
    EXPECT_EQ(settings->finish_by, Duration::zero());
    EXPECT_EQ(settings->streams, kAutoStreams);
    EXPECT_EQ(settings->delta_cache_bytes, kDefaultDeltaCacheBytes);
}

// Times of the API are multiplied to nanoseconds: only what has been compared before.
TEST(MigrateSettings, ANumberThatWouldWrapRoundIsRefusedByName) {
    for (const uint64_t number : {kHuge, uint64_t{1} << 63, uint64_t{3'600'000'001}}) {
        v1::MigrateRequest broken = request();
        broken.set_downtime_limit_us(number);
        EXPECT_THAT(refusal(broken), HasSubstr("downtime_limit_us"));
        broken = request();
        broken.set_finish_by_ms(number);
        EXPECT_THAT(refusal(broken), HasSubstr("finish_by_ms"));
    }
    v1::MigrateRequest broken = request();
    broken.set_max_data(std::nan(""));
    EXPECT_THAT(refusal(broken), HasSubstr("max_data"));
    broken = request();
    broken.set_streams(65536 + 2);
    EXPECT_THAT(refusal(broken), HasSubstr("streams"));
    broken = request();
    broken.set_delta_cache_bytes(kHuge);
    EXPECT_THAT(refusal(broken), HasSubstr("delta_cache_bytes"));
}

TEST(ApiTimeout, IsNeverNegative) {
    EXPECT_EQ(api_timeout(0), Duration::zero());
    EXPECT_EQ(api_timeout(30'000), std::chrono::seconds(30));
    for (const uint64_t timeout_ms : {kHuge, uint64_t{1} << 63, uint64_t{10'000'000'000'000}})
        EXPECT_EQ(api_timeout(timeout_ms), std::chrono::hours(365 * 24));
}

}  // namespace
}  // namespace godwit
