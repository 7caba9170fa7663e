#include "engine/guest/disks/file_look.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <filesystem>
#include <thread>

#include "engine/base/late_call.h"
#include "engine/base/unique_fd.h"
#include "engine/guest/disks/same_disks.h"

namespace godwit {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Duration kMoment = std::chrono::milliseconds(200);

// A file system whose server never answers, until it is gone.
class DeadMount : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = "/tmp/gw-dead-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        root_ = pattern;
        server_.reset(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
        const std::string options =
            fmt::format("fd={},rootmode=40000,user_id=0,group_id=0", server_.get());
        is_mounted_ =
            server_.valid() && ::mount("dead", root_.c_str(), "fuse", 0, options.c_str()) == 0;
        if (!is_mounted_) GTEST_SKIP() << "no FUSE, or no right to mount";
    }
    void TearDown() override {
        server_.reset();  // whoever waits is told
        if (is_mounted_) ::umount2(root_.c_str(), MNT_DETACH);
        std::filesystem::remove(root_);
    }
    [[nodiscard]] std::string path() const { return root_ + "/disk.img"; }
    void await_no_hanging_call() {
        server_.reset();
        while (late_calls_that_hang() > 0) std::this_thread::yield();
    }

  private:
    std::string root_;
    UniqueFd server_;
    bool is_mounted_ = false;
};

absl::Status look(const HostFile& file) {
    return ::access(file.path.c_str(), file.access) == 0 ? absl::OkStatus()
                                                         : absl::NotFoundError("no " + file.what);
}

TEST(LookAtFiles, GoesThroughThemUntilOneIsWrong) {
    EXPECT_TRUE(look_at_files({}, look).ok());
    EXPECT_TRUE(look_at_files({{"one", "/"}, {"another", "/dev/null"}}, look).ok());
    const absl::Status wrong =
        look_at_files({{"one", "/"}, {"another", "/nowhere"}, {"third", "/nowhere"}}, look);
    EXPECT_EQ(wrong, absl::NotFoundError("no another"));
}

TEST_F(DeadMount, IsNamedAndWhoeverLooksIsLeftBehind) {
    const absl::Status silent = look_at_files({{"disk", path()}}, look, kMoment);
    EXPECT_TRUE(absl::IsFailedPrecondition(silent)) << silent;
    EXPECT_THAT(std::string(silent.message()),
                AllOf(HasSubstr("disk " + path()), HasSubstr("does not answer")));
    EXPECT_EQ(late_calls_that_hang(), 1U);
    await_no_hanging_call();
}

TEST_F(DeadMount, HoldsNoMigrationUpThatAsksWhichDiskItIs) {
    v1::VmSpec spec;
    spec.add_disks()->set_path(path());
    const auto told = identities_of(spec, this_host(), kMoment);
    EXPECT_THAT(std::string(told.status().message()), HasSubstr("disk " + path()));
    await_no_hanging_call();
}

// A thread each: there must be an end to them.
TEST_F(DeadMount, IsNotLookedAtAgainAndAgain) {
    absl::Status last;
    for (int i = 0; i < 1000 && last.message().find("is not looked at") == std::string::npos; ++i)
        last = look_at_files({{"disk", path()}}, look, Duration::zero());
    EXPECT_THAT(std::string(last.message()), HasSubstr("is not looked at: "));
    EXPECT_LE(late_calls_that_hang(), 100U);
    await_no_hanging_call();
    EXPECT_TRUE(look_at_files({{"one", "/"}}, look).ok());
}

}  // namespace
}  // namespace godwit
