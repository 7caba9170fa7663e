#include "dirty-tracking/tracker/fallback_tracker.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

// Says what was asked of it.
class NotingTracker final : public DirtyTracker {
  public:
    NotingTracker(std::string name, absl::Status start, std::string& calls)
        : name_(std::move(name)), start_(std::move(start)), calls_(calls) {}
    ~NotingTracker() override { (void)note("gone"); }

    [[nodiscard]] std::string_view name() const override { return name_; }
    [[nodiscard]] std::vector<std::string> warnings() const override { return {name_ + " warns"}; }
    [[nodiscard]] bool sees_discards() const override { return name_ == "first"; }
    absl::Status start() override {
        (void)note("start");
        return start_;
    }
    absl::Status collect(PageSet&, PageSet&) override { return note("collect"); }
    absl::Status rearm(BlockIndex, PageRange) override { return note("rearm"); }
    absl::Status stop() override { return note("stop"); }

  private:
    absl::Status note(const std::string& what) {
        calls_ += name_ + " " + what + "; ";
        return absl::OkStatus();
    }
    std::string name_;
    absl::Status start_;
    std::string& calls_;
};

class Fallback : public testing::Test {
  protected:
    std::unique_ptr<DirtyTracker> noting(const std::string& name, absl::Status start = {}) {
        return std::make_unique<NotingTracker>(name, std::move(start), calls_);
    }
    std::string calls_;
    PageSet set_{PageBitmap(8)};
};

TEST_F(Fallback, IsNotTakenWhereTheFirstOneStarts) {
    FallbackTracker tracker(noting("first"), [&] { return noting("second"); });
    EXPECT_TRUE(tracker.start().ok());
    EXPECT_TRUE(tracker.collect(set_, set_).ok());
    EXPECT_TRUE(tracker.rearm(0, {0, 8}).ok());
    EXPECT_TRUE(tracker.stop().ok());
    EXPECT_EQ(tracker.name(), "first");
    EXPECT_EQ(tracker.reason(), "");
    EXPECT_TRUE(tracker.sees_discards());
    EXPECT_EQ(calls_, "first start; first collect; first rearm; first stop; ");
}

TEST_F(Fallback, TakesOverWithTheReasonWhereTheFirstOneDoesNotStart) {
    FallbackTracker tracker(noting("first", absl::FailedPreconditionError("the log is broken")),
                            [&] { return noting("second"); });
    EXPECT_EQ(tracker.name(), "first");
    EXPECT_TRUE(tracker.start().ok());
    EXPECT_TRUE(tracker.collect(set_, set_).ok());
    EXPECT_EQ(tracker.name(), "second");
    EXPECT_EQ(tracker.reason(), "the log is broken");
    EXPECT_EQ(tracker.warnings(), std::vector<std::string>{"second warns"});
    EXPECT_FALSE(tracker.sees_discards());
    // What the first one may have left armed is disarmed before the second one arms.
    EXPECT_EQ(calls_, "first start; first stop; first gone; second start; second collect; ");
    EXPECT_TRUE(tracker.stop().ok());
    EXPECT_TRUE(tracker.start().ok());
    EXPECT_EQ(tracker.name(), "second");
}

TEST_F(Fallback, ThatFailsTooSaysBoth) {
    for (const bool made : {false, true}) {
        FallbackTracker tracker(noting("first", absl::FailedPreconditionError("one")),
                                [&]() -> absl::StatusOr<std::unique_ptr<DirtyTracker>> {
                                    if (!made) return absl::NotFoundError("two");
                                    return noting("second", absl::NotFoundError("two"));
                                });
        const absl::Status status = tracker.start();
        EXPECT_TRUE(absl::IsNotFound(status));
        EXPECT_NE(status.message().find("one"), std::string::npos) << status;
        EXPECT_NE(status.message().find("two"), std::string::npos) << status;
        EXPECT_TRUE(tracker.stop().ok());
    }
}

TEST_F(Fallback, MayBeThereFromTheBeginning) {
    FallbackTracker tracker(noting("second"), "no KVM");
    EXPECT_TRUE(tracker.start().ok());
    EXPECT_EQ(tracker.reason(), "no KVM");
}

}  // namespace
}  // namespace godwit
