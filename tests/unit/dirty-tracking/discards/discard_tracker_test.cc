#include "dirty-tracking/discards/discard_tracker.h"

#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

// uffd-wp, on a process with the resident: with a VM of KVM's, and without any, as under TCG.
class DiscardTrackerTest : public ResidentTest, public testing::WithParamInterface<const char*> {
  protected:
    void start() {
        ResidentTargetOptions options;
        options.ram = {4 * kChunkBytes};
        options.arguments = {GetParam()};
        options.mount_options = "size=256M,noswap,huge=never";
        ASSERT_NO_FATAL_FAILURE(start_target(options));
        ASSERT_EQ(target_->tell("store 0", {3, 600, 1030}), "fine");
        const pid_t pid = target_->program->pid();
        auto tracker =
            UffdWriteProtectTracker::create(pid, target_->blocks, other_threads(pid, pid));
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        tracker_ = std::make_unique<DiscardTracker>(*std::move(tracker), std::move(client_),
                                                    target_->blocks);
        const absl::Status status = tracker_->start();
        ASSERT_TRUE(status.ok()) << status;
    }
    [[nodiscard]] std::string punch(PageIndex page) const {
        return target_->tell("punch " + target_->blocks[0].path + " " + std::to_string(page) +
                             " 1");
    }
    struct Collected {
        Pages dirty, unsettled;
    };
    Collected collect() {
        PageSet dirty = target_->empty_set();
        PageSet unsettled = target_->empty_set();
        const absl::Status status = tracker_->collect(dirty, unsettled);
        EXPECT_TRUE(status.ok()) << status;
        return {pages_of(dirty[0]), pages_of(unsettled[0])};
    }
    static Pages pages_of(const PageBitmap& bitmap) {
        Pages pages;
        bitmap.for_each_run([&pages](PageRange run) {
            for (PageIndex page = run.begin; page < run.end; ++page) pages.insert(page);
        });
        return pages;
    }
    std::unique_ptr<DiscardTracker> tracker_;
};

TEST_P(DiscardTrackerTest, ReportsWritesByThePageAndDiscardsByTheChunk) {
    ASSERT_NO_FATAL_FAILURE(start());
    EXPECT_EQ(tracker_->name(), "uffd-wp");
    EXPECT_TRUE(tracker_->sees_discards());
    EXPECT_EQ(collect().dirty, Pages{});
    ASSERT_EQ(target_->tell("store 0", {3}), "fine");
    ASSERT_EQ(punch(600), "fine");
    Pages expected = range_of(512, 512);
    expected.insert(3);
    const Collected found = collect();
    EXPECT_EQ(found.dirty, expected);
    EXPECT_EQ(found.unsettled, expected);
    EXPECT_EQ(collect().dirty, Pages{});
    ASSERT_EQ(target_->tell("remove 0 1030 1"), "fine");
    EXPECT_EQ(collect().dirty, range_of(1024, 512));
}

TEST_P(DiscardTrackerTest, ReportsAWriteAfterADiscard) {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_EQ(punch(600), "fine");
    (void)collect();
    ASSERT_EQ(target_->tell("store 0", {600, 700}), "fine");
    const Pages found = collect().dirty;
    EXPECT_TRUE(found.contains(600));
    EXPECT_TRUE(found.contains(700));
}

TEST_P(DiscardTrackerTest, StopsAndStartsAgain) {
    ASSERT_NO_FATAL_FAILURE(start());
    EXPECT_TRUE(tracker_->stop().ok());
    ASSERT_EQ(punch(600), "fine");
    ASSERT_TRUE(tracker_->start().ok());
    EXPECT_EQ(collect().dirty, Pages{});
    ASSERT_EQ(punch(600), "fine");
    EXPECT_EQ(collect().dirty, range_of(512, 512));
    target_->program->kill_and_reap();
    PageSet dirty = target_->empty_set();
    EXPECT_FALSE(tracker_->collect(dirty, dirty).ok());
    EXPECT_TRUE(tracker_->stop().ok());
}

TEST_P(DiscardTrackerTest, SeesNoneWhereTheResidentRefuses) {
    ASSERT_NO_FATAL_FAILURE(start());
    EXPECT_TRUE(tracker_->stop().ok());
    auto other = target_->connect();
    ASSERT_TRUE(other.ok()) << other.status();
    ASSERT_TRUE((*other)->start_log(target_->blocks, ResidentLog::kDiscardsOnly).ok());
    ASSERT_TRUE(tracker_->start().ok());
    EXPECT_FALSE(tracker_->sees_discards());
    ASSERT_EQ(target_->tell("store 0", {3}), "fine");
    ASSERT_EQ(punch(600), "fine");
    EXPECT_EQ(collect().dirty, Pages{3});
    EXPECT_TRUE(tracker_->stop().ok());
}

INSTANTIATE_TEST_SUITE_P(Accelerators, DiscardTrackerTest, testing::Values("manual=3", "no-kvm"),
                         [](const auto& test) {
                             return std::string(test.param) == "no-kvm" ? "none" : "kvm";
                         });

}  // namespace
}  // namespace godwit
