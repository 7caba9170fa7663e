#include "engine/model/dirty_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;

DirtyTrace sample_trace() {
    DirtyTrace trace{.header = {.touched_pages = 900, .block_pages = {1000, 24}}};
    Dice dice(7);
    for (uint64_t i = 1; i <= 20; ++i) {
        DirtyRecord record{.time_ns = i * 100'000'000};
        for (uint64_t at = 0; at < 1000;) {
            const auto gap = 1 + static_cast<uint64_t>(dice.roll() * 200);
            const auto count = 1 + static_cast<uint64_t>(dice.roll() * 20);
            if (at + gap + count > 1024) break;
            record.runs.push_back({at + gap, count});
            record.page_count += count;
            at += gap + count;
        }
        trace.records.push_back(record);
    }
    return trace;
}

std::string bytes_of(const DirtyTrace& trace) {
    std::ostringstream out;
    auto writer = TraceWriter::begin(out, trace.header);
    EXPECT_TRUE(writer.ok());
    for (const DirtyRecord& record : trace.records) EXPECT_TRUE(writer->add(record).ok());
    EXPECT_TRUE(writer->finish().ok());
    return out.str();
}

absl::StatusOr<DirtyTrace> read_back(const std::string& bytes) {
    std::istringstream in(bytes);
    return read_trace(in);
}

TEST(DirtyTrace, ReadsWhatWasWritten) {
    const DirtyTrace trace = sample_trace();
    const auto read = read_back(bytes_of(trace));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->header.block_pages, trace.header.block_pages);
    EXPECT_EQ(read->header.touched_pages, 900u);
    ASSERT_EQ(read->records.size(), trace.records.size());
    for (size_t i = 0; i < trace.records.size(); ++i) {
        EXPECT_EQ(read->records[i].time_ns, trace.records[i].time_ns);
        EXPECT_EQ(read->records[i].page_count, trace.records[i].page_count);
        EXPECT_EQ(read->records[i].runs, trace.records[i].runs);
    }
}

TEST(DirtyTrace, CutOffAnywhereIsAnError) {
    const std::string bytes = bytes_of(sample_trace());
    for (size_t size = 0; size < bytes.size(); ++size)
        EXPECT_FALSE(read_back(bytes.substr(0, size)).ok()) << size;
    EXPECT_THAT(read_back(bytes.substr(0, bytes.size() - 1)).status().message(),
                HasSubstr("cut off in record 20"));
}

TEST(DirtyTrace, DamagedAnywhereIsAnError) {
    const std::string bytes = bytes_of(sample_trace());
    for (size_t at = 0; at < bytes.size(); ++at) {
        std::string bad = bytes;
        bad[at] = static_cast<char>(bad[at] ^ 0x41);
        EXPECT_FALSE(read_back(bad).ok()) << at;
    }
}

TEST(DirtyTrace, SaysThatAFileIsNoTrace) {
    EXPECT_THAT(read_back("\x7f"
                          "ELF and so on, and more of it")
                    .status()
                    .message(),
                HasSubstr("does not begin with GODWDIRT"));
    EXPECT_FALSE(read_back("").ok());
    std::string future = bytes_of(sample_trace());
    future[8] = 2;
    EXPECT_THAT(read_back(future).status().message(), HasSubstr("version 2"));
}

TEST(DirtyTrace, WithoutDirtySetsHasNoDirtyData) {
    DirtyTrace trace = sample_trace();
    trace.records.clear();
    EXPECT_THAT(read_back(bytes_of(trace)).status().message(), HasSubstr("no dirty data"));
}

TEST(DirtyTrace, WritesNoNonsense) {
    std::ostringstream out;
    EXPECT_FALSE(TraceWriter::begin(out, {}).ok());
    EXPECT_FALSE(TraceWriter::begin(out, {.block_pages = {kMostTracePages, 1}}).ok());
    auto writer = TraceWriter::begin(out, {.block_pages = {100}});
    for (const std::vector<PageRun>& runs : {std::vector<PageRun>{{0, 0}},
                                             {{0, 101}},
                                             {{50, 10}, {40, 5}},
                                             {{0, 5}, {5, 5}},
                                             {{~uint64_t{0}, 2}}})
        EXPECT_FALSE(writer->add({.time_ns = 1, .runs = runs}).ok());
    EXPECT_FALSE(writer->add({.time_ns = 0}).ok());
    EXPECT_TRUE(writer->add({.time_ns = 1, .runs = {{99, 1}}}).ok());
    EXPECT_FALSE(writer->add({.time_ns = 1}).ok());
}

}  // namespace
}  // namespace godwit
