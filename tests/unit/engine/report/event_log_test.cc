#include "engine/report/event_log.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

namespace godwit {
namespace {

v1::MigrationReport report(const std::string& id) {
    v1::MigrationReport made;
    made.set_migration_id(id);
    return made;
}

std::vector<v1::MigrationEvent> all_of(EventLog& log) {
    std::vector<v1::MigrationEvent> events;
    log.follow([&](const v1::MigrationEvent* event) {
        if (event != nullptr) events.push_back(*event);
        return true;
    });
    return events;
}

TEST(EventLog, ReplaysFromTheStartToEveryLateFollower) {
    EventLog log;
    log.message("prepare", "one");
    log.round({});
    log.message("freeze", "two");
    log.finish(report("m"));
    for (int follower = 0; follower < 2; ++follower) {
        const auto events = all_of(log);
        ASSERT_EQ(events.size(), 4U);
        EXPECT_EQ(events[0].message(), "one");
        EXPECT_TRUE(events[1].has_round());
        EXPECT_EQ(events[2].phase(), "freeze");
        EXPECT_EQ(events[3].report().migration_id(), "m");
        for (size_t i = 1; i < events.size(); ++i)
            EXPECT_GT(events[i].sequence(), events[i - 1].sequence());
    }
}

TEST(EventLog, OfProgressKeepsOnlyTheNewest) {
    EventLog log;
    for (uint64_t pages = 1; pages <= 100; ++pages) {
        v1::Progress progress;
        progress.set_done_pages(pages);
        log.progress(progress);
    }
    log.finish(report("m"));
    const auto events = all_of(log);
    EXPECT_LE(events.size(), 2U);
    EXPECT_TRUE(events.back().has_report());
    if (events.size() == 2) {
        EXPECT_EQ(events.front().progress().done_pages(), 100U);
    }
}

TEST(EventLog, WakesAFollowerThatWaits) {
    EventLog log;
    std::promise<std::string> heard;
    std::jthread follower([&] {
        log.follow([&](const v1::MigrationEvent* event) {
            if (event == nullptr) return true;
            heard.set_value(event->message());
            return false;
        });
    });
    log.message("rounds", "news");
    EXPECT_EQ(heard.get_future().get(), "news");
}

TEST(EventLog, LetsAFollowerGoThatHasNothingToRead) {
    EventLog log;
    int looks = 0;
    log.follow([&](const v1::MigrationEvent* event) {
        EXPECT_EQ(event, nullptr);
        return ++looks < 2;
    });
    EXPECT_EQ(looks, 2);
}

TEST(EventLog, HasNothingAfterTheReport) {
    EventLog log;
    EXPECT_FALSE(log.finished());
    EXPECT_EQ(log.report().migration_id(), "");
    log.finish(report("first"));
    log.message("done", "too late");
    log.finish(report("second"));
    EXPECT_TRUE(log.finished());
    EXPECT_EQ(log.report().migration_id(), "first");
    EXPECT_EQ(all_of(log).size(), 1U);
}

TEST(EventLog, DropsMessagesWhenThereAreTooManyButNeverTheReport) {
    EventLog log;
    for (int i = 0; i < 10'000; ++i) log.message("rounds", "noise");
    log.finish(report("m"));
    const auto events = all_of(log);
    EXPECT_LT(events.size(), 5000U);
    EXPECT_TRUE(events.back().has_report());
}

}  // namespace
}  // namespace godwit
