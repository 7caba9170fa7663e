#include "tools/godwitd/dirty_recording.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tools/godwit/trace_recorder.h"

namespace godwit {
namespace {

TEST(RecordingTimes, HaveDefaultsAndBounds) {
    v1::RecordDirtyRequest request;
    ASSERT_TRUE(recording_times(request).ok());
    EXPECT_EQ(recording_times(request)->length, std::chrono::seconds(60));
    EXPECT_EQ(recording_times(request)->window, std::chrono::milliseconds(100));
    for (const uint64_t window_us : {uint64_t{1}, uint64_t{600'000'001}, ~uint64_t{0}}) {
        request.set_window_us(window_us);
        EXPECT_FALSE(recording_times(request).ok()) << window_us;
    }
    request.set_window_us(10'000);
    EXPECT_EQ(recording_times(request)->window, std::chrono::milliseconds(10));
    request.set_duration_ms(~uint64_t{0});
    EXPECT_FALSE(recording_times(request).ok());
}

// What an agent sends of a set is what the command line stores of it.
TEST(DirtySetMessages, AreTheSetWhateverItsSizeAndBlocks) {
    PageSet dirty;
    dirty.emplace_back(100'000);
    dirty.emplace_back(0);
    dirty.emplace_back(1000);
    for (PageIndex page = 1; page < 100'000; page += 2) dirty[0].set(page);
    dirty[2].set_range({0, 10});
    dirty[2].set(999);
    v1::DirtyRecording start;
    for (const PageBitmap& block : dirty)
        start.mutable_start()->add_block_pages(block.page_count());

    std::ostringstream out;
    TraceRecorder recorder(out);
    ASSERT_TRUE(recorder.take(start).ok());
    int messages = 0;
    ASSERT_TRUE(send_dirty_set(dirty, std::chrono::milliseconds(100),
                               [&](const v1::DirtyRecording& message) {
                                   ++messages;
                                   EXPECT_LE(message.set().runs_size(), 2 * kMostRunsOfMessage);
                                   return recorder.take(message).ok();
                               }));
    EXPECT_GT(messages, 50'000 / kMostRunsOfMessage);
    ASSERT_TRUE(recorder.finish().ok());

    std::istringstream in(out.str());
    const auto trace = read_trace(in);
    ASSERT_TRUE(trace.ok()) << trace.status().message();
    ASSERT_EQ(trace->records.size(), 1U);
    EXPECT_EQ(trace->records[0].time_ns, 100'000'000U);
    PageSet stored = dirty;
    clear_pages(stored);
    for (const PageRun& run : trace->records[0].runs)
        for (uint64_t page = run.first; page < run.first + run.count; ++page)
            page < 100'000 ? stored[0].set(page) : stored[2].set(page - 100'000);
    EXPECT_EQ(stored, dirty);
}

TEST(DirtySetMessages, AnEmptySetIsOneMessageAndARefusedOneEndsIt) {
    PageSet dirty;
    dirty.emplace_back(100'000);
    int messages = 0;
    EXPECT_TRUE(
        send_dirty_set(dirty, std::chrono::milliseconds(1), [&](const v1::DirtyRecording& message) {
            ++messages;
            EXPECT_FALSE(message.set().more());
            return true;
        }));
    EXPECT_EQ(messages, 1);
    for (PageIndex page = 1; page < 100'000; page += 2) dirty[0].set(page);
    messages = 0;
    EXPECT_FALSE(
        send_dirty_set(dirty, std::chrono::milliseconds(1), [&](const v1::DirtyRecording&) {
            ++messages;
            return false;
        }));
    EXPECT_EQ(messages, 1);
}

}  // namespace
}  // namespace godwit
