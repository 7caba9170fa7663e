#include "engine/report/json.h"

#include <gtest/gtest.h>

#include <limits>

#include "godwit/v1/agent.pb.h"

namespace godwit {
namespace {

TEST(Json, PrintsZerosEmptyTextsAndEmptyLists) {
    const auto json = to_json(v1::MigrationReport());
    EXPECT_EQ(json["downtime_ms"], 0.0);
    EXPECT_EQ(json["wire_bytes"], 0);
    EXPECT_EQ(json["retry_safe"], false);
    EXPECT_EQ(json["reason"], "");
    EXPECT_TRUE(json["rounds"].is_array());
    EXPECT_EQ(json["rounds"].size(), 0U);
    EXPECT_EQ(json["pages"]["raw"], 0);
    EXPECT_EQ(json["verify"]["mismatches"], 0);
}

TEST(Json, PrintsEveryFieldOfTheReportInTheOrderOfTheProto) {
    const auto json = to_json(v1::MigrationReport());
    const auto& type = *v1::MigrationReport::descriptor();
    ASSERT_EQ(json.size(), static_cast<size_t>(type.field_count()));
    int i = 0;
    for (const auto& item : json.items()) EXPECT_EQ(item.key(), type.field(i++)->name());
}

TEST(Json, PrintsBigNumbersAsNumbers) {
    v1::MigrationReport report;
    report.set_wire_bytes(std::numeric_limits<uint64_t>::max());
    const auto json = to_json(report);
    EXPECT_TRUE(json["wire_bytes"].is_number_unsigned());
    EXPECT_NE(json.dump().find("\"wire_bytes\":18446744073709551615"), std::string::npos);
    v1::VmInfo vm;
    vm.set_pid(-1);
    EXPECT_EQ(to_json(vm)["pid"], -1);
}

TEST(Json, PrintsEnumsAsWords) {
    v1::MigrationReport report;
    report.set_outcome(v1::OUTCOME_IN_DOUBT);
    report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
    const auto json = to_json(report);
    EXPECT_EQ(json["outcome"], "in-doubt");
    EXPECT_EQ(json["guest_at"], "needs-operator");
    EXPECT_EQ(enum_word(v1::MEMORY_BACKING_HUGETLB_2M), "hugetlb-2m");
    EXPECT_EQ(enum_word(v1::ACCEL_KVM), "kvm");
    EXPECT_EQ(enum_word(*v1::Outcome_descriptor(), 77), "77");
}

TEST(Json, PrintsOfAChoiceOnlyWhatWasChosen) {
    v1::MigrationEvent event;
    event.set_message("hello");
    const auto json = to_json(event);
    EXPECT_EQ(json["message"], "hello");
    EXPECT_FALSE(json.contains("progress"));
    EXPECT_FALSE(json.contains("report"));
}

TEST(Json, PrintsListsOfEachKind) {
    v1::MigrationReport report;
    report.add_warnings("one");
    report.add_rounds()->set_sent_pages(7);
    v1::NumaNode node;
    node.add_vcpus(3);
    EXPECT_EQ(to_json(report)["warnings"][0], "one");
    EXPECT_EQ(to_json(report)["rounds"][0]["sent_pages"], 7);
    EXPECT_EQ(to_json(node)["vcpus"][0], 3U);
}

}  // namespace
}  // namespace godwit
