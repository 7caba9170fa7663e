#include "tests/harness/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/wait.h"

namespace godwit::testing {
namespace {

std::string read_all(int fd) {
    std::string text;
    std::vector<char> buffer(64 << 10);
    off_t at = 0;
    for (ssize_t got = 0; (got = ::pread(fd, buffer.data(), buffer.size(), at)) > 0; at += got)
        text.append(buffer.data(), static_cast<size_t>(got));
    return text;
}

}  // namespace

std::string program(const std::string& name) { return std::string(GODWIT_BIN_DIR) + "/" + name; }

BackgroundCommand::BackgroundCommand(std::vector<std::string> argv)
    : out_(::memfd_create("stdout", MFD_CLOEXEC)), err_(::memfd_create("stderr", MFD_CLOEXEC)) {
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, out_.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions, err_.get(), 2);
    std::vector<char*> words;
    for (std::string& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    const int error = ::posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        ADD_FAILURE() << "cannot start " << argv[0] << ": " << strerrordesc_np(error);
        ended_ = true;
        return;
    }
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

BackgroundCommand::BackgroundCommand(BackgroundCommand&& other) noexcept
    : pid_(other.pid_),
      exit_code_(other.exit_code_),
      ended_(std::exchange(other.ended_, true)),
      pidfd_(std::move(other.pidfd_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

BackgroundCommand::~BackgroundCommand() {
    if (ended_) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void BackgroundCommand::signal(int number) const {
    if (!ended_) ::kill(pid_, number);
}

bool BackgroundCommand::wait(Duration limit) {
    if (ended_) return true;
    if (!wait_readable(pidfd_.get(), -1, Clock::system().now() + limit).ok()) return false;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended_ = true;
    return true;
}

CommandResult BackgroundCommand::result() {
    return {exit_code_, read_all(out_.get()), read_all(err_.get())};
}

CommandResult run_command(const std::vector<std::string>& argv, Duration limit) {
    BackgroundCommand command(argv);
    if (!command.wait(limit)) {
        ADD_FAILURE() << argv[0] << " did not end in time; stderr: " << command.result().err;
        command.signal(SIGKILL);
        command.wait(std::chrono::seconds(10));
    }
    return command.result();
}

bool eventually(Duration limit, const std::function<bool()>& done) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    while (!done()) {
        const MonotonicTime now = Clock::system().now();
        if (now >= deadline) return false;
        // Nothing to wait on: the thing looked at is another program's file or answer.
        wait_readable(-1, -1, std::min(deadline, now + std::chrono::milliseconds(5))).IgnoreError();
    }
    return true;
}

}  // namespace godwit::testing
