#include "dirty-tracking/attach/attach.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <csignal>

#include "tests/unit/dirty-tracking/attach/target_fixture.h"

namespace godwit {
namespace {

class Attach : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_attach(); !reason.empty()) GTEST_SKIP() << reason;
    }
};

bool is_userfaultfd(int fd) {
    uffdio_api api{.api = UFFD_API};
    return ::ioctl(fd, UFFDIO_API, &api) != 0 && errno == EINVAL;  // the handshake was done
}

// Attaches again and again; the target forgets its descriptor in between.
void attach_many_times(const std::string& mode, int times) {
    const Target target = Target::start(mode);
    if (target.program == nullptr) GTEST_SKIP() << "there is no usable /dev/kvm";
    for (int i = 0; i < times; ++i) {
        const auto attachment = target.attach();
        ASSERT_TRUE(attachment.ok()) << attachment.status();
        ASSERT_FALSE(attachment->adopted);
        ASSERT_EQ(attachment->thread, target.worker);
        ASSERT_TRUE(is_userfaultfd(attachment->userfaultfd.get()));
        if (i % 8 == 0) {
            ASSERT_EQ(target.ask("check"), "fine") << "after attach " << i;
        }
        ASSERT_EQ(target.ask("close"), "closed");
    }
    EXPECT_EQ(target.ask("check"), "fine");
}

TEST_F(Attach, LeavesAThreadThatWaitsOnAFutexWaiting) { attach_many_times("futex", 200); }
TEST_F(Attach, LeavesAThreadInPpollWithItsSignalMask) { attach_many_times("ppoll", 200); }
TEST_F(Attach, LeavesAThreadThatReadsAPipeReading) { attach_many_times("pipe", 200); }
TEST_F(Attach, LeavesAThreadThatSleepsSleeping) { attach_many_times("nanosleep", 200); }
TEST_F(Attach, ChangesNoRegisterOfABusyThread) { attach_many_times("compute", 150); }
TEST_F(Attach, LeavesAVcpuThatLoopsOnInterruptedRunsRunning) { attach_many_times("kvm", 150); }

TEST_F(Attach, DoesNotProlongASleepThatItInterruptsAllTheTime) {
    const Target target = Target::start("long-sleep");
    // A sleep that started over at each attach would never end here.
    const auto sleeps = [&] { return std::stoi(target.ask("progress")); };
    const int before = sleeps();
    while (sleeps() < before + 2) {
        ASSERT_TRUE(target.attach().ok());
        ASSERT_EQ(target.ask("close"), "closed");
    }
    EXPECT_EQ(target.ask("check"), "fine");
}

TEST_F(Attach, LosesNoSignalThatArrivesMeanwhile) {
    const Target target = Target::start("signals");
    int attached = 0;
    for (int i = 0; i < 24; ++i) {
        // In the stopped thread's queue when it is told to go on: the worst moment.
        AttachOptions options;
        options.after_step = [&](AttachStep step) {
            if (step == static_cast<AttachStep>(i % kAttachStepCount)) target.ask("signals");
        };
        const auto attachment = target.attach(options);
        if (attachment.ok()) ++attached;
        ASSERT_TRUE(attachment.ok() || absl::IsAborted(attachment.status()));
        ASSERT_EQ(target.ask("close"), "closed");
    }
    EXPECT_GT(attached, 0);
    EXPECT_EQ(target.ask("count-signals"), "fine");
    EXPECT_EQ(target.ask("check"), "fine");
}

TEST_F(Attach, WorksOnAProcessThatWasStoppedWithSigstop) {
    const Target target = Target::start("futex");
    ASSERT_EQ(::kill(target.program->pid(), SIGSTOP), 0);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(target.program->pid()), &info, WSTOPPED), 0);
    const auto attachment = target.attach();
    EXPECT_TRUE(attachment.ok()) << attachment.status();
    ASSERT_EQ(::kill(target.program->pid(), SIGCONT), 0);
    EXPECT_EQ(target.ask("check"), "fine");
}

TEST_F(Attach, TakesTheUserfaultfdOfAnEarlierAgent) {
    const Target target = Target::start("futex");
    {
        const auto first = target.attach();
        ASSERT_TRUE(first.ok()) << first.status();
    }
    const auto second = target.attach();
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_TRUE(second->adopted);
    EXPECT_EQ(second->hold.count(), 0);
}

TEST_F(Attach, ClosesItsDescriptorOnExec) {
    const Target target = Target::start("futex");
    const auto attachment = target.attach();
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    EXPECT_NE(::fcntl(attachment->userfaultfd.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(attachment->userfaultfd.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(Attach, ToAProcessThatIsGoneIsNotFound) {
    Target target = Target::start("futex");
    const pid_t pid = target.program->pid();
    target.program->kill_and_reap();
    EXPECT_TRUE(absl::IsNotFound(attach_userfaultfd(pid, {}).status()));
}

TEST_F(Attach, ToAZombieIsNotFound) {
    const Target target = Target::start("futex");
    ::kill(target.program->pid(), SIGKILL);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(target.program->pid()), &info, WEXITED | WNOWAIT);
    EXPECT_TRUE(absl::IsNotFound(attach_userfaultfd(target.program->pid(), {}).status()));
}

TEST_F(Attach, ToAProcessThatDiesAtAnyStepIsNotFound) {
    for (int step = 0; step < static_cast<int>(AttachStep::kRestored); ++step) {
        const Target target = Target::start("futex");
        AttachOptions options;
        options.after_step = [&](AttachStep now) {
            if (static_cast<int>(now) == step) ::kill(target.program->pid(), SIGKILL);
        };
        const auto attachment = target.attach(options);
        EXPECT_TRUE(absl::IsNotFound(attachment.status()))
            << "step " << step << ": " << attachment.status();
    }
}

TEST_F(Attach, LeavesAThreadThatDoesNotStopAloneAfterTheDeadline) {
    const Target target = Target::start("vfork");
    // A thread in vfork can't be stopped before its child has gone.
    const auto attachment = target.attach({.deadline = std::chrono::milliseconds(200)});
    EXPECT_TRUE(absl::IsDeadlineExceeded(attachment.status())) << attachment.status();
    EXPECT_EQ(target.ask("check"), "fine");
    EXPECT_TRUE(target.attach().ok());
    EXPECT_EQ(target.ask("check"), "fine");
}

TEST_F(Attach, NamesTheDebuggerThatTracesTheProcess) {
    const Target target = Target::start("futex");
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, target.worker, nullptr, nullptr), 0);
    const auto attachment = target.attach();
    EXPECT_TRUE(absl::IsFailedPrecondition(attachment.status()));
    EXPECT_NE(attachment.status().message().find("is traced by process"), std::string::npos)
        << attachment.status();
    ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, target.worker, nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(target.worker, nullptr, __WALL), target.worker);
    ASSERT_EQ(::ptrace(PTRACE_DETACH, target.worker, nullptr, nullptr), 0);
}

TEST_F(Attach, RefusesWhenOnlyVcpuThreadsAreLeft) {
    const Target target = Target::start("futex");
    const auto all = other_threads(target.program->pid(), 0);
    EXPECT_TRUE(
        absl::IsFailedPrecondition(attach_userfaultfd(target.program->pid(), all).status()));
}

}  // namespace
}  // namespace godwit
