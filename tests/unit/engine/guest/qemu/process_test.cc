#include "engine/guest/qemu/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kLong = std::chrono::seconds(20);

class ProcessTest : public testing::Test {
  protected:
    absl::StatusOr<Spawned> shell(const std::string& script, std::vector<int> keep_fds = {}) {
        return spawn({.program = "/bin/sh",
                      .argv = {"sh", "-c", script},
                      .keep_fds = std::move(keep_fds),
                      .log_fd = log_.get()},
                     nullptr);
    }
    static std::string end_of(const Spawned& spawned) {
        EXPECT_TRUE(wait_readable(spawned.pidfd.get(), -1, Clock::system().now() + kLong).ok());
        return reap(spawned.pidfd.get()).value_or("nothing");
    }
    UniqueFd log_{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
};

TEST_F(ProcessTest, AnEndIsToldOnceInWords) {
    const auto done = shell("exit 3");
    ASSERT_TRUE(done.ok()) << done.status();
    EXPECT_EQ(end_of(*done), "exit status 3");
    EXPECT_EQ(reap(done->pidfd.get()), std::nullopt);
    EXPECT_TRUE(has_ended(done->pidfd.get()));
    const auto killed = shell("kill -KILL $$");
    ASSERT_TRUE(killed.ok());
    EXPECT_EQ(end_of(*killed), "killed by SIGKILL");
}

TEST_F(ProcessTest, OnlyTheKeptDescriptorsPass) {
    const UniqueFd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const UniqueFd leaked(::open("/dev/null", O_RDONLY));  // somebody forgot CLOEXEC
    const auto spawned = shell("test -e /proc/$$/fd/" + std::to_string(kept.get()) +
                                   " && ! test -e /proc/$$/fd/" + std::to_string(leaked.get()),
                               {kept.get()});
    ASSERT_TRUE(spawned.ok()) << spawned.status();
    EXPECT_EQ(end_of(*spawned), "exit status 0");
}

TEST_F(ProcessTest, AProgramThatIsNotThereIsAnError) {
    const auto spawned =
        spawn({.program = "/nonexistent", .argv = {"x"}, .log_fd = log_.get()}, nullptr);
    EXPECT_EQ(spawned.status().code(), absl::StatusCode::kNotFound) << spawned.status();
}

TEST_F(ProcessTest, TheProgramDoesNotRunWhenItCannotBeNoted) {
    std::string mark = "/tmp/godwit-process-XXXXXX";
    const UniqueFd file(::mkstemp(mark.data()));
    ASSERT_TRUE(file.valid());
    ProcessId noted;
    const auto spawned = spawn({.program = "/bin/rm", .argv = {"rm", mark}, .log_fd = log_.get()},
                               [&](ProcessId id) {
                                   noted = id;
                                   return absl::DataLossError("the disk is full");
                               });
    EXPECT_EQ(spawned.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_GT(noted.pid, 0);
    EXPECT_GT(noted.start_time, 0U);
    EXPECT_EQ(::access(mark.c_str(), F_OK), 0);
    ::unlink(mark.c_str());
}

TEST_F(ProcessTest, AProcessIsKnownAgainByItsStartTime) {
    const auto start_time = process_start_time(::getpid());
    ASSERT_TRUE(start_time.ok());
    EXPECT_TRUE(open_process({::getpid(), *start_time}).ok());
    EXPECT_EQ(open_process({::getpid(), *start_time + 1}).status().code(),
              absl::StatusCode::kNotFound);
    EXPECT_EQ(open_process({}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ProcessTest, OutputIsCapturedAndAFailureIsAnError) {
    EXPECT_EQ(*run_and_capture({"/bin/echo", "hello"}, kLong), "hello\n");
    EXPECT_EQ(run_and_capture({"/bin/false"}, kLong).status().code(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(run_and_capture({"/bin/cat", "/dev/zero"}, kLong).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(run_and_capture({"/bin/sleep", "60"}, std::chrono::milliseconds(20)).status().code(),
              absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ProcessTest, ProgramsAreFoundInThePath) {
    EXPECT_TRUE(find_program("sh").ok());
    EXPECT_EQ(*find_program("/bin/sh"), "/bin/sh");
    EXPECT_EQ(find_program("no-such-program-at-all").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace godwit
