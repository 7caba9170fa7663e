// `godwit vm record-dirty`, and godwit-sim on what it wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "engine/model/dirty_trace.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";
constexpr uint64_t kHeaderBytes = 40;  // of a trace with one block

DirtyTrace trace_at(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    absl::StatusOr<DirtyTrace> trace = read_trace(in);
    EXPECT_TRUE(trace.ok()) << trace.status().message();
    return trace.ok() ? *std::move(trace) : DirtyTrace{};
}

// godwit-sim moves 3 VMs that write as the trace says.
void expect_replays(const std::string& path) {
    const CommandResult result = run_command({program("godwit-sim"), "--trace", path, "--vms", "3",
                                              "--hosts", "2", "--link", "10Gbit", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json simulated = json_of(result);
    ASSERT_TRUE(simulated.is_object());
    EXPECT_GE(simulated["page_bytes"].get<double>(),
              3.0 * static_cast<double>(trace_at(path).header.touched_pages) * 4096);
}

class Record : public ::testing::Test {
  protected:
    void start(const std::string& accel = accel_here()) {
        ASSERT_NO_FATAL_FAILURE(
            start_guest(a, {.accel = accel, .append = "ws=64M rate=1000 pattern=seq sweep=0"}));
    }
    std::vector<std::string> words(const std::vector<std::string>& flags) {
        std::vector<std::string> all = {"vm", "record-dirty", kVm, "-o", path, "--json"};
        all.insert(all.end(), flags.begin(), flags.end());
        return all;
    }
    // For long, in the background; at least one set is written.
    BackgroundCommand begin() {
        BackgroundCommand recording = a.cli_in_background(words({"--for", "10m"}));
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
            std::error_code error;
            const auto size = std::filesystem::file_size(path + ".partial", error);
            return !error && size > kHeaderBytes;
        }));
        EXPECT_FALSE(std::filesystem::exists(path)) << "it is whole only in the end";
        return recording;
    }
    // Has ended with a whole trace under its name alone.
    json expect_whole(BackgroundCommand& recording, int exit_code) {
        EXPECT_TRUE(recording.wait(std::chrono::seconds(60)));
        EXPECT_EQ(recording.result().exit_code, exit_code) << recording.result().err;
        EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
        json said = json_of(recording.result());
        if (!said.is_object()) {
            ADD_FAILURE() << recording.result().out;
            return json::object();
        }
        EXPECT_EQ(said["sets"].get<size_t>(), trace_at(path).records.size());
        expect_replays(path);
        return said;
    }

    TestAgent a;
    const std::string path = a.state_dir() + "/vm.trace";
};

class RecordBy : public Record, public ::testing::WithParamInterface<const char*> {};

TEST_P(RecordBy, SetsHaveWhatTheGuestWroteAndTheSimulatorReplaysThem) {
    const std::string accel = GetParam();
    if (const std::string reason = missing(accel); !reason.empty()) GTEST_SKIP() << reason;
    ASSERT_NO_FATAL_FAILURE(start(accel));
    const uint64_t before = testimony(a, kVm).writes;
    const CommandResult result = a.cli(words({"--for", "2s", "--window", "100ms"}));
    const uint64_t written = testimony(a, kVm).writes - before;
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const json said = json_of(result);
    EXPECT_EQ(said["tracker"], accel == "kvm" ? "kvm-dirty-log" : "uffd-wp");
    EXPECT_EQ(said["ended"], "time");
    const DirtyTrace trace = trace_at(path);
    EXPECT_EQ(trace.header.page_count(), uint64_t{256} << 8);
    EXPECT_GT(trace.header.touched_pages, uint64_t{64} << 8);
    EXPECT_EQ(trace.records.size(), said["sets"].get<size_t>());
    EXPECT_LE(trace.records.size(), 20U);
    uint64_t pages = 0;
    for (const DirtyRecord& record : trace.records) pages += record.page_count;
    EXPECT_EQ(pages, said["dirty_pages"].get<uint64_t>());
    // What was written in one window is not in the next ones again; a window has besides the
    // pages of the mailbox, the counters and the stack.
    EXPECT_GT(pages, 100U);
    EXPECT_LE(pages, written + 200 + 20 * trace.records.size());
    expect_replays(path);
    EXPECT_EQ(a.vm(kVm)["migration_id"], "") << "nothing stays held";
    expect_alive_and_well(a, kVm, 100);
}

INSTANTIATE_TEST_SUITE_P(Accelerators, RecordBy, ::testing::Values("kvm", "tcg"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(Record, AnInterruptEndsItWithAWholeTraceAndTheVmIsFree) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand recording = begin();
    recording.signal(SIGINT);
    EXPECT_EQ(expect_whole(recording, 0)["ended"], "interrupt");
    EXPECT_TRUE(eventually(std::chrono::seconds(10),
                           [&] { return a.vm(kVm).value("migration_id", "?").empty(); }));
    expect_alive_and_well(a, kVm, 100);
}

TEST_F(Record, AVmThatEndsEndsItWithAWholeTraceAndItSaysSo) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand recording = begin();
    ASSERT_EQ(::kill(a.qemu_pid(kVm), SIGKILL), 0);
    const json said = expect_whole(recording, 6);
    EXPECT_EQ(said["ended"], "vm-ended");
    EXPECT_THAT(recording.result().err, HasSubstr("the VM ended after"));
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return a.vm_names().empty(); }));
}

TEST_F(Record, AnAgentThatDiesEndsItWithAWholeTrace) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand recording = begin();
    a.end(SIGKILL);
    EXPECT_EQ(expect_whole(recording, 1)["ended"], "failed");
    a.restart();
    expect_alive_and_well(a, kVm, 100);
}

TEST_F(Record, AVmThatIsRecordedIsNotMigrated) {
    ASSERT_NO_FATAL_FAILURE(start());
    TestAgent b;
    BackgroundCommand recording = begin();
    const CommandResult refused = a.cli({"migrate", kVm, "--to", b.address()});
    EXPECT_EQ(refused.exit_code, 3);
    EXPECT_THAT(refused.err, HasSubstr("dirty sets being recorded"));
    recording.signal(SIGINT);
    expect_whole(recording, 0);
}

TEST_F(Record, WhatCannotBeRecordedIsRefusedAndAnOlderTraceStays) {
    std::ofstream(path) << "older";
    EXPECT_EQ(a.cli(words({})).exit_code, 3) << "there is no such VM";
    EXPECT_EQ(std::filesystem::file_size(path), 5U);
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
    EXPECT_EQ(a.cli(words({"--for", "0s"})).exit_code, 2);
    EXPECT_EQ(a.cli(words({"--window", "1ms"})).exit_code, 2);
    EXPECT_EQ(a.cli(words({"--tracker", "tea-leaves"})).exit_code, 2);
    const CommandResult folder = a.cli({"vm", "record-dirty", kVm, "-o", a.state_dir()});
    EXPECT_EQ(folder.exit_code, 2);
    EXPECT_THAT(folder.err, HasSubstr("is no file"));
    const CommandResult nowhere = a.cli({"vm", "record-dirty", kVm, "-o", "/no/such/dir/trace"});
    EXPECT_EQ(nowhere.exit_code, 2);
    EXPECT_THAT(nowhere.err, HasSubstr("/no/such/dir/trace"));
}

}  // namespace
}  // namespace godwit::testing
