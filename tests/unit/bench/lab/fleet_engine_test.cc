#include "bench/lab/fleet_engine.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

TEST(FleetMetrics, AreOfTheWholeCommandAndOfTheWorstGuest) {
    const auto told = nlohmann::json::parse(R"({
        "schedule": "auto", "at_a_time": 2, "expected_ms": 9000.5, "sampling_ms": 1000,
        "total_ms": 9500, "outage_ms": null,
        "guests": [
          {"exit_code": 0, "downtime_ms": 12.5, "report": {"wire_bytes": 100}},
          {"exit_code": 0, "downtime_ms": 60, "report": {"wire_bytes": 50}},
          {"exit_code": 1, "downtime_ms": null, "report": null}]})");
    const Metrics metrics = fleet_metrics(told, 50);
    EXPECT_EQ(metrics.at("total_ms"), 10'500);
    EXPECT_EQ(metrics.at("sampling_ms"), 1000);
    EXPECT_EQ(metrics.at("expected_ms"), 9000.5);
    EXPECT_EQ(metrics.at("at_a_time"), 2);
    EXPECT_EQ(metrics.at("downtime_ms"), 60);
    EXPECT_EQ(metrics.at("downtime_sum_ms"), 72.5);
    EXPECT_EQ(metrics.at("limits_missed"), 2) << "one was too long, one did not arrive";
    EXPECT_EQ(metrics.at("wire_bytes"), 150);
    EXPECT_FALSE(metrics.contains("outage_ms"));
}

}  // namespace
}  // namespace godwit
