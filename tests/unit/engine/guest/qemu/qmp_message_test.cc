#include "engine/guest/qemu/qmp_message.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(QmpMessage, GarbageIsAnErrorAndNoCrash) {
    for (const char* line :
         {"", "hello", "[]", "{}", "{\"id\": 1}", "{\"return\"", "17", "null", "\xff\xfe"})
        EXPECT_FALSE(parse_qmp_line(line).ok()) << line;
    EXPECT_FALSE(parse_qmp_line(std::string(100'000, '[')).ok());
}

TEST(QmpMessage, MembersOfTheWrongTypeCountAsAbsent) {
    const auto reply = parse_qmp_line(R"({"id": "x", "error": {"class": 3, "desc": []}})");
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(std::get<QmpReply>(*reply).error_class, "GenericError");
    const auto event = parse_qmp_line(R"({"event": [], "timestamp": {"seconds": 1e300}})");
    ASSERT_TRUE(event.ok());
    EXPECT_EQ(std::get<QmpEvent>(*event).name, "");
    EXPECT_EQ(std::get<QmpEvent>(*event).stamp, microseconds(0));
}

TEST(QmpMessage, WhatIsDeeperThanAnythingThatQemuSaysIsRefused) {
    const auto nested = [](size_t depth) {
        return R"({"id": 1, "return": )" + std::string(depth, '[') + std::string(depth, ']') + "}";
    };
    EXPECT_TRUE(parse_qmp_line(nested(kMaxJsonDepth - 1)).ok());
    EXPECT_FALSE(parse_qmp_line(nested(kMaxJsonDepth)).ok());
    // What copied it would need more stack than there is.
    EXPECT_FALSE(parse_qmp_line(nested(4'000'000)).ok());
    const std::string quoted(1000, '[');
    EXPECT_TRUE(parse_qmp_line(R"({"id": 1, "return": "\\\"{)" + quoted + "\"}").ok());
}

TEST(QmpMessage, ANumberBeyondTheSignedRangeIsNone) {
    const Json object =
        parse_json(R"({"most": 9223372036854775807, "more": 9223372036854775808, "least": -1,)"
                   R"( "all": 18446744073709551615})");
    EXPECT_EQ(json_number(object, "most"), INT64_MAX);
    EXPECT_EQ(json_number(object, "more"), 0);
    EXPECT_EQ(json_number(object, "all"), 0);
    EXPECT_EQ(json_number(object, "least"), -1);
}

TEST(QmpMessage, AnEventHasItsDataAndItsStamp) {
    const auto message =
        parse_qmp_line(R"({"timestamp": {"seconds": 5, "microseconds": 7}, "event": "MIGRATION", )"
                       R"("data": {"status": "active"}})");
    ASSERT_TRUE(message.ok());
    const auto& event = std::get<QmpEvent>(*message);
    EXPECT_EQ(event.name, "MIGRATION");
    EXPECT_EQ(json_text(event.data, "status"), "active");
    EXPECT_EQ(event.stamp, microseconds(5'000'007));
}

TEST(QmpMessage, ErrorsAreInQemusWords) {
    const auto message =
        parse_qmp_line(R"({"id": 4, "error": {"class": "GenericError", "desc": "No such fd"}})");
    ASSERT_TRUE(message.ok());
    const absl::Status status = qmp_error("migrate", std::get<QmpReply>(*message));
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message(), "migrate: No such fd");
    EXPECT_EQ(qmp_error("x", {.error_class = "CommandNotFound"}).code(),
              absl::StatusCode::kUnimplemented);
    EXPECT_EQ(qmp_error("x", {.error_class = "DeviceNotFound"}).code(),
              absl::StatusCode::kFailedPrecondition);
}

TEST(QmpMessage, AStampBecomesMonotonicTimeOfTheLastSecond) {
    const MonotonicTime now = MonotonicTime() + seconds(1000);
    EXPECT_EQ(stamp_to_monotonic(seconds(50) - milliseconds(3), seconds(50), now),
              now - milliseconds(3));
    // The wall clock was stepped between the event and the reading.
    EXPECT_EQ(stamp_to_monotonic(seconds(60), seconds(50), now), now);
    EXPECT_EQ(stamp_to_monotonic(seconds(1), seconds(50), now), now - seconds(1));
}

}  // namespace
}  // namespace godwit
