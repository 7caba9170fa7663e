// What a migration would be like, and what it was: plans with real guests, agents and links.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "godwit/v1/transfer.grpc.pb.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"
#include "transport/frame/frame_header.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kVm = "vm";

json row_of(const json& plan, const std::string& strategy) {
    for (const json& row : plan["rows"])
        if (row["strategy"] == strategy) return row;
    ADD_FAILURE() << "no row of " << strategy << ": " << plan;
    return {};
}

// No number that is none: JSON has null for these.
void expect_numbers(const json& value) {
    EXPECT_FALSE(value.is_null());
    if (value.is_structured())
        for (const json& part : value) expect_numbers(part);
}

class Planned : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = missing("kvm"); !reason.empty()) GTEST_SKIP() << reason;
    }
    CommandResult plan(const std::vector<std::string>& flags) {
        std::vector<std::string> words{"plan", kVm, "--to", b.address(), "--json"};
        words.insert(words.end(), flags.begin(), flags.end());
        return a.cli(words);
    }
    TestAgent a, b;
};

// 16 MiB/s are 4,096 pages a second, and half a second of pause is 2,048 pages.
const std::vector<std::string> kSlowLink = {"--bandwidth", "16MiB/s",  "--downtime-limit",
                                            "500ms",       "--sample", "1s"};

TEST_F(Planned, AQuietGuestConverges) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=64M rate=100"}));
    const CommandResult result = plan(kSlowLink);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json said = json_of(result);
    expect_numbers(said);
    EXPECT_EQ(said["rows"].size(), 4U);
    const json row = row_of(said, "precopy");
    EXPECT_TRUE(row["converges"]) << said;
    EXPECT_TRUE(row["holds"]) << said;
    EXPECT_EQ(said["chosen"], "precopy") << said;
    EXPECT_THAT(said["sentence"].get<std::string>(), StartsWith("yes: precopy with"));
    EXPECT_GE(row["total_ms"]["high"], row["total_ms"]["mid"]);
    EXPECT_GE(row["total_ms"]["mid"], row["total_ms"]["low"]);
    const json measured = said["measured"];
    EXPECT_EQ(measured["tracker"], "kvm-dirty-log");
    EXPECT_GE(measured["touched_bytes"], 64 << 20);
    EXPECT_EQ(measured["windows"].size(), 19U);
    EXPECT_GT(measured["round_trip_ms"], 0);
    EXPECT_GT(row["cpu_s"]["mid"], 0);
    // Nothing was moved, and nothing is held.
    EXPECT_EQ(a.vm(kVm)["migration_id"], "");
    EXPECT_TRUE(b.vm_names().empty());
    expect_alive_and_well(a, kVm);
}

TEST_F(Planned, AGuestThatWritesFasterThanTheLinkDoesNot) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=64M rate=0 pattern=random"}));
    const json said = json_of(plan(kSlowLink));
    const json row = row_of(said, "precopy");
    EXPECT_FALSE(row["converges"]) << said;
    EXPECT_THAT(row["verdict"].get<std::string>(), HasSubstr("will not converge"));
    EXPECT_NE(said["chosen"], "precopy");
    expect_alive_and_well(a, kVm);
}

TEST_F(Planned, AndMovedIsRememberedWithBothNumbers) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=64M rate=1000"}));
    const CommandResult planned = plan({"--downtime-limit", "500ms", "--sample", "200ms"});
    const json said = json_of(planned);
    ASSERT_FALSE(said.is_null()) << planned.err;
    EXPECT_EQ(said["measured"]["costs_from_migrations"], 0);
    const json expected = row_of(said, "precopy");
    const CommandResult moved =
        a.cli({"migrate", kVm, "--to", b.address(), "--json", "--strategy", "precopy",
               "--downtime-limit", "500ms", "--on-no-converge", "stop-and-copy"});
    ASSERT_EQ(moved.exit_code, 0) << moved.err;
    const json report = json_of(moved);
    ASSERT_EQ(report["outcome"], "done") << report;
    EXPECT_EQ(report["prediction"]["predicted_by"], "plan");
    EXPECT_EQ(report["prediction"]["total_ms"], expected["total_ms"]);
    const json forecast = report["rounds"][0]["forecast"];
    EXPECT_GE(forecast["rounds"], 1);
    EXPECT_GE(forecast["total_ms"]["high"], forecast["total_ms"]["low"]);
    EXPECT_TRUE(report["rounds"].back()["frozen"]);

    a.restart();
    const json known = a.cli_json({"plan", "--calibration", "--to", b.address()});
    ASSERT_EQ(known["pairs"].size(), 1U) << known;
    const json entry = known["pairs"][0]["migrations"][0];
    EXPECT_EQ(entry["migration_id"], report["migration_id"]);
    EXPECT_EQ(entry["predicted"]["predicted_by"], "plan");
    EXPECT_EQ(entry["predicted"]["downtime_ms"], expected["downtime_ms"]);
    EXPECT_EQ(entry["predicted"]["wire_bytes"], expected["wire_bytes"]);
    EXPECT_EQ(entry["total_ms"], report["total_ms"]);
    EXPECT_EQ(entry["downtime_ms"], report["downtime_ms"]);
    EXPECT_EQ(entry["wire_bytes"], report["wire_bytes"]);
    EXPECT_TRUE(a.cli_json({"plan", "--calibration", "--to", "127.0.0.1:1"})["pairs"].empty());

    // Back, so that there is something to plan for again: with what was learnt.
    ASSERT_EQ(migrate(b, a.address()).exit_code, 0);
    const json again = json_of(plan({"--sample", "200ms"}));
    EXPECT_EQ(again["measured"]["costs_from_migrations"], 1) << again;
    EXPECT_EQ(again["measured"]["costs"]["pause_ms"], entry["costs"]["pause_ms"]);
    EXPECT_EQ(
        b.cli_json(
            {"plan", "--calibration"})["pairs"][0]["migrations"][0]["predicted"]["predicted_by"],
        "round 0")
        << "nobody planned the way back";
}

TEST_F(Planned, WithLimitsThatNothingCanMeetIsANo) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=16M rate=100"}));
    const CommandResult no = plan({"--downtime-limit", "1us", "--sample", "100ms"});
    EXPECT_EQ(no.exit_code, 1) << no.err;
    EXPECT_EQ(json_of(no)["chosen"], "");
    EXPECT_THAT(json_of(no)["sentence"].get<std::string>(), StartsWith("no: "));
    const CommandResult late = plan({"--finish-by", "1ms", "--sample", "100ms"});
    EXPECT_EQ(late.exit_code, 1) << late.err;
    EXPECT_THAT(json_of(late)["sentence"].get<std::string>(), HasSubstr("total time up to"));
}

TEST_F(Planned, AVmThatEndsMeanwhileIsAnErrorAndNoPlan) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=16M rate=100"}));
    BackgroundCommand planning =
        a.cli_in_background({"plan", kVm, "--to", b.address(), "--sample", "5m"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20),
                           [&] { return a.vm(kVm)["migration_id"] == "(being planned)"; }));
    EXPECT_THAT(a.cli({"vm", "dirty-rate", kVm}).err, HasSubstr("in use"));
    ::kill(a.qemu_pid(kVm), SIGKILL);
    ASSERT_TRUE(planning.wait(std::chrono::seconds(20)));
    EXPECT_EQ(planning.result().exit_code, 3);
    EXPECT_THAT(planning.result().err, HasSubstr("Cannot plan a migration of vm"));
}

TEST_F(Planned, ACtrlCLetsTheVmGo) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=16M rate=100"}));
    BackgroundCommand planning =
        a.cli_in_background({"plan", kVm, "--to", b.address(), "--sample", "5m"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20),
                           [&] { return a.vm(kVm)["migration_id"] == "(being planned)"; }));
    planning.signal(SIGINT);
    ASSERT_TRUE(planning.wait(std::chrono::seconds(20)));
    EXPECT_TRUE(
        eventually(std::chrono::seconds(20), [&] { return a.vm(kVm)["migration_id"] == ""; }));
    EXPECT_EQ(plan({"--sample", "100ms"}).exit_code, 0);
    expect_alive_and_well(a, kVm);
}

TEST(PlanOf, WhatCanNotBePlannedIsRefused) {
    TestAgent a;
    const auto refused = [&](const std::vector<std::string>& words) {
        return a.cli(words).exit_code;
    };
    EXPECT_EQ(refused({"plan", "nobody", "--to", "127.0.0.1:1", "--sample", "100ms"}), 3);
    EXPECT_EQ(refused({"plan", "nobody"}), 2);
    EXPECT_EQ(refused({"plan", "--to", "127.0.0.1:1"}), 2);
    EXPECT_EQ(refused({"plan", "nobody", "--to", "nowhere"}), 2);
    EXPECT_EQ(refused({"plan", "nobody", "--to", "127.0.0.1:1", "--sample", "1ms"}), 2);
    EXPECT_EQ(refused({"plan", "nobody", "--to", "127.0.0.1:1", "--downtime-limit", "0"}), 2);
    EXPECT_EQ(refused({"plan", "nobody", "--to", "127.0.0.1:1", "--downtime-limit", "9h"}), 2);
    EXPECT_EQ(refused({"plan", "nobody", "--to", "127.0.0.1:1", "--finish-by", "never"}), 2);
    EXPECT_THAT(a.cli({"plan", "--calibration"}).out, HasSubstr("no migration"));
}

TEST(PlanOf, AnUnreachableDestinationIsSaidAtOnce) {
    TestAgent a;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    const CommandResult refused = a.cli({"plan", kVm, "--to", "127.0.0.1:1", "--sample", "10m"});
    EXPECT_EQ(refused.exit_code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("127.0.0.1:1"));
    const CommandResult itself = a.cli({"plan", kVm, "--to", a.address(), "--sample", "10m"});
    EXPECT_EQ(itself.exit_code, 3) << itself.err;
    EXPECT_THAT(itself.err, HasSubstr("is this agent itself"));
    EXPECT_EQ(a.vm(kVm)["migration_id"], "");
}

// --- the other end of a probe -------------------------------------------------------------------

v1::ProbeRequest probe_request() {
    v1::ProbeRequest request;
    request.set_protocol_version(kProtocolVersion);
    request.set_probe_id("probe-1");
    request.set_streams(2);
    return request;
}

grpc::Status probe(const TestAgent& agent, const v1::ProbeRequest& request) {
    grpc::ClientContext context;
    v1::ProbeEvent event;
    const auto events = transfer_api(agent)->Probe(&context, request);
    while (events->Read(&event)) {
    }
    return events->Finish();
}

TEST(Probe, OfAnotherVersionOrWithoutSenseIsRefused) {
    TestAgent b;
    v1::ProbeRequest request = probe_request();
    request.set_protocol_version(kProtocolVersion + 1);
    EXPECT_EQ(probe(b, request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    for (const uint32_t streams : {0U, 17U, UINT32_MAX}) {
        request = probe_request();
        request.set_streams(streams);
        EXPECT_EQ(probe(b, request).error_code(), grpc::StatusCode::INVALID_ARGUMENT) << streams;
    }
    request = probe_request();
    request.set_probe_id("../probe");
    EXPECT_EQ(probe(b, request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(Probe, OfWhichThereAreTooManyIsRefusedUntilOneIsOver) {
    TestAgent b;
    const auto api = transfer_api(b);
    grpc::ClientContext first, second;
    v1::ProbeEvent where;
    const auto waiting = api->Probe(&first, probe_request());
    ASSERT_TRUE(waiting->Read(&where));
    EXPECT_GT(where.data_port(), 0U);
    EXPECT_EQ(where.session_token().size(), 32U);
    const auto also_waiting = api->Probe(&second, probe_request());
    ASSERT_TRUE(also_waiting->Read(&where));
    EXPECT_EQ(probe(b, probe_request()).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    first.TryCancel();
    second.TryCancel();
    EXPECT_EQ(waiting->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_EQ(also_waiting->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] {
        grpc::ClientContext context;
        const auto again = api->Probe(&context, probe_request());
        const bool taken = again->Read(&where);
        context.TryCancel();
        again->Finish();
        return taken;
    }));
}

}  // namespace
}  // namespace godwit::testing
