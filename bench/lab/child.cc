#include "bench/lab/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr size_t kMaxOutputBytes = size_t{16} << 20;
constexpr Duration kKillPatience = std::chrono::seconds(30);

std::string read_all(int fd) {
    std::string text;
    std::array<char, 16384> buffer;
    ssize_t got = 0;
    while (text.size() < kMaxOutputBytes &&
           (got = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()))) > 0)
        text.append(buffer.data(), static_cast<size_t>(got));
    return text;
}

}  // namespace

absl::StatusOr<Child> Child::start(const std::vector<std::string>& argv,
                                   const std::vector<int>& keep_fds) {
    Child child;
    child.out_.reset(::memfd_create("stdout", MFD_CLOEXEC));
    child.err_.reset(::memfd_create("stderr", MFD_CLOEXEC));
    if (!child.out_.valid() || !child.err_.valid()) return errno_status(errno, "memfd_create");
    std::vector<std::string> all{"setpriv", "--pdeathsig", "KILL", "--"};
    all.insert(all.end(), argv.begin(), argv.end());
    std::vector<char*> words;
    words.reserve(all.size() + 1);
    for (std::string& word : all) words.push_back(word.data());
    words.push_back(nullptr);

    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, child.out_.get(), 1);
    ::posix_spawn_file_actions_adddup2(&files, child.err_.get(), 2);
    // Onto itself: that takes close-on-exec away.
    for (const int fd : keep_fds) ::posix_spawn_file_actions_adddup2(&files, fd, fd);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    const int error =
        ::posix_spawnp(&child.pid_, words[0], &files, &attributes, words.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
        child.pid_ = -1;
        return errno_status(error, fmt::format("Cannot start {}", argv.front()));
    }
    child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
    if (!child.pidfd_.valid()) return errno_status(errno, "pidfd_open");
    return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      pidfd_(std::move(other.pidfd_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Child::~Child() { end(SIGKILL, kKillPatience); }

absl::StatusOr<int> Child::wait(MonotonicTime deadline, int cancel_fd) {
    if (status_) return *status_;
    GODWIT_RETURN_IF_ERROR(wait_readable(pidfd_.get(), cancel_fd, deadline));
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return *status_;
}

void Child::end(int signal_number, Duration patience) {
    if (pid_ <= 0 || status_) return;
    ::kill(pid_, signal_number);
    if (wait(Clock::system().now() + patience, -1).ok()) return;
    ::kill(pid_, SIGKILL);
    (void)wait(Clock::system().now() + kKillPatience, -1);
}

std::string Child::out() const { return read_all(out_.get()); }
std::string Child::err() const { return read_all(err_.get()); }

}  // namespace godwit
