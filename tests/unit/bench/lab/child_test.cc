#include "bench/lab/child.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/wait.h"
#include "tests/unit/bench/lab/soon.h"

namespace godwit {
namespace {

TEST(Child, KeepsOutputAndErrorsApartAndItsExitStatus) {
    auto child = Child::start({"sh", "-c", "echo out; echo err >&2; exit 3"});
    ASSERT_TRUE(child.ok()) << child.status();
    const auto status = child->wait(soon(), -1);
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(*status, 3);
    EXPECT_EQ(child->out(), "out\n");
    EXPECT_EQ(child->err(), "err\n");
}

TEST(Child, IsGoneWhenItsOwnerIs) {
    pid_t pid = 0;
    {
        auto child = Child::start({"sleep", "1000"});
        ASSERT_TRUE(child.ok()) << child.status();
        pid = child->pid();
        EXPECT_EQ(::kill(pid, 0), 0);
    }
    EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(Child, GetsTheDescriptorsThatItIsToKeepUnderTheirNumbers) {
    int sockets[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    const UniqueFd ours(sockets[0]);
    const UniqueFd theirs(sockets[1]);
    auto child =
        Child::start({"sh", "-c", "echo hello >&" + std::to_string(theirs.get())}, {theirs.get()});
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_TRUE(child->wait(soon(), -1).ok());
    char text[16] = {};
    EXPECT_EQ(::recv(ours.get(), text, sizeof text, MSG_DONTWAIT), 6);
    EXPECT_STREQ(text, "hello\n");
}

TEST(Child, AnInterruptEndsAWaitAndLeavesIt) {
    auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    auto child = Child::start({"sleep", "1000"});
    ASSERT_TRUE(child.ok()) << child.status();
    cancel->notify();
    EXPECT_TRUE(absl::IsCancelled(child->wait(soon(), cancel->fd()).status()));
    child->end(SIGTERM, std::chrono::seconds(20));
    EXPECT_EQ(*child->wait(soon(), -1), 128 + SIGTERM);
}

TEST(Child, AProgramThatIsNotThereSaysSo) {
    auto child = Child::start({"/nonexistent/program"});
    ASSERT_TRUE(child.ok()) << child.status();
    EXPECT_NE(*child->wait(soon(), -1), 0);
    EXPECT_THAT(child->err(), ::testing::HasSubstr("/nonexistent/program"));
}

}  // namespace
}  // namespace godwit
