#include "tools/godwit/trace_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DirtyRecording start_of(const std::vector<uint64_t>& block_pages) {
    v1::DirtyRecording message;
    message.mutable_start()->set_vm("web");
    message.mutable_start()->set_touched_pages(5);
    for (const uint64_t pages : block_pages) message.mutable_start()->add_block_pages(pages);
    return message;
}

v1::DirtyRecording set_of(uint64_t time_ns, const std::vector<uint64_t>& runs, bool more = false) {
    v1::DirtyRecording message;
    message.mutable_set()->set_time_ns(time_ns);
    for (const uint64_t number : runs) message.mutable_set()->add_runs(number);
    message.mutable_set()->set_more(more);
    return message;
}

absl::StatusOr<DirtyTrace> trace_in(const std::ostringstream& out) {
    std::istringstream in(out.str());
    return read_trace(in);
}

TEST(TraceRecorder, WritesWhatCameAsAWholeTrace) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start_of({100, 50})).ok());
    ASSERT_TRUE(recorder.take(set_of(10, {3, 2, 5, 1})).ok());
    ASSERT_TRUE(recorder.take(set_of(20, {})).ok());
    ASSERT_TRUE(recorder.finish().ok());
    const auto trace = trace_in(out);
    ASSERT_TRUE(trace.ok()) << trace.status().message();
    EXPECT_THAT(trace->header.block_pages, ElementsAre(100, 50));
    ASSERT_EQ(trace->records.size(), 2U);
    EXPECT_THAT(trace->records[0].runs, ElementsAre(PageRun{3, 2}, PageRun{10, 1}));
    EXPECT_EQ(trace->records[1].page_count, 0U);
    EXPECT_EQ(recorder.sets(), 2U);
    EXPECT_EQ(recorder.dirty_pages(), 3U);
    EXPECT_EQ(recorder.time_ns(), 20U);
}

TEST(TraceRecorder, JoinsASetOfSeveralMessagesAndRunsThatTouch) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start_of({100, 50})).ok());
    ASSERT_TRUE(recorder.take(set_of(10, {98, 2}, /*more=*/true)).ok());
    ASSERT_TRUE(recorder.take(set_of(10, {0, 3, 7, 1})).ok());
    ASSERT_TRUE(recorder.finish().ok());
    EXPECT_THAT(trace_in(out)->records[0].runs, ElementsAre(PageRun{98, 5}, PageRun{110, 1}));
}

TEST(TraceRecorder, LeavesOutASetOfWhichOnlyAPartCame) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start_of({100})).ok());
    ASSERT_TRUE(recorder.take(set_of(10, {1, 1})).ok());
    ASSERT_TRUE(recorder.take(set_of(20, {2, 2}, /*more=*/true)).ok());
    ASSERT_TRUE(recorder.finish().ok());
    EXPECT_EQ(trace_in(out)->records.size(), 1U);
}

TEST(TraceRecorder, WithoutASetThereIsNoTrace) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    EXPECT_TRUE(absl::IsFailedPrecondition(recorder.finish()));
    ASSERT_TRUE(recorder.take(start_of({100})).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(recorder.finish()));
}

TEST(TraceRecorder, KeepsWhyItEndedEarly) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start_of({100})).ok());
    v1::DirtyRecording end;
    end.set_ended_early("the VM ended");
    ASSERT_TRUE(recorder.take(end).ok());
    EXPECT_EQ(recorder.ended_early(), "the VM ended");
}

struct Nonsense {
    const char* name;
    std::vector<v1::DirtyRecording> messages;  // the last one is refused
};
void PrintTo(const Nonsense& param, std::ostream* out) { *out << param.name; }

class AgentThatLies : public ::testing::TestWithParam<Nonsense> {};

TEST_P(AgentThatLies, IsNotBelieved) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    const auto& messages = GetParam().messages;
    for (size_t i = 0; i + 1 < messages.size(); ++i) ASSERT_TRUE(recorder.take(messages[i]).ok());
    EXPECT_FALSE(recorder.take(messages.back()).ok());
}

constexpr uint64_t kHuge = ~uint64_t{0};

INSTANTIATE_TEST_SUITE_P(
    TraceRecorder, AgentThatLies,
    ::testing::Values(Nonsense{"SetBeforeStart", {set_of(1, {0, 1})}},
                      Nonsense{"TwoStarts", {start_of({100}), start_of({100})}},
                      Nonsense{"NoBlocks", {start_of({})}},
                      Nonsense{"HugeBlock", {start_of({kHuge})}},
                      Nonsense{"HalfARun", {start_of({100}), set_of(1, {1})}},
                      Nonsense{"EmptyRun", {start_of({100}), set_of(1, {1, 0})}},
                      Nonsense{"PastTheEnd", {start_of({100}), set_of(1, {99, 2})}},
                      Nonsense{"HugeGap", {start_of({100}), set_of(1, {kHuge, 1})}},
                      Nonsense{"HugeRun", {start_of({100}), set_of(1, {1, kHuge})}},
                      Nonsense{"HugeRunThatTouches",
                               {start_of({100}), set_of(1, {1, 1, 0, kHuge})}},
                      Nonsense{"TimeThatStands", {start_of({100}), set_of(1, {}), set_of(1, {})}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(TraceRecorder, SaysWhenTheFileCannotBeWritten) {
    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start_of({100})).ok());
    out.setstate(std::ios::badbit);
    const absl::Status status = recorder.take(set_of(1, {0, 1}));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Cannot write the dirty trace"));
}

TEST(TraceRecorder, SaysWhyAFileCannotBeWritten) {
    std::ofstream full("/dev/full", std::ios::binary);
    TraceRecorder recorder(full);
    absl::Status status = recorder.take(start_of({100}));
    if (status.ok()) status = recorder.take(set_of(10, {3, 2}));
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("ENOSPC"));
}

}  // namespace
}  // namespace godwit
