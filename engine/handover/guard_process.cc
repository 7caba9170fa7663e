#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "engine/base/wait.h"
#include "engine/handover/guard.h"
#include "engine/handover/guard_protocol.h"

namespace godwit {
namespace {

constexpr Duration kReadyLimit = std::chrono::seconds(5);
constexpr Duration kDismissLimit = std::chrono::seconds(2);

absl::Status await(int socket, GuardMessageKind kind) {
    GODWIT_RETURN_IF_ERROR(annotate(wait_readable(socket, -1, Clock::system().now() + kReadyLimit),
                                    "The guard does not answer"));
    GuardMessage message;
    if (::recv(socket, &message, sizeof message, 0) != static_cast<ssize_t>(sizeof message) ||
        message.kind != kind)
        return absl::UnavailableError("The guard has ended; its log says why");
    return absl::OkStatus();
}

// posix_spawn with the socket as kGuardSocketFd, stderr in the log, and a session of its own, so
// that a signal to the agent's process group does not end it.
absl::StatusOr<pid_t> spawn(const GuardProcess::Options& options, int socket) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 2, options.log_path.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, socket, kGuardSocketFd);
    std::string program = options.program, word = options.word_path;
    std::string address = options.guest_address;
    std::array<char*, 4> argv{program.data(), word.data(), address.data(), nullptr};
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0)
        return errno_status(error, fmt::format("Cannot start the guard {}", options.program));
    return pid;
}

}  // namespace

absl::StatusOr<GuardProcess> GuardProcess::launch(const Options& options) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
        return errno_status(errno, "socketpair for the guard");
    UniqueFd ours(pair[0]);
    UniqueFd theirs(pair[1]);
    // adddup2 onto the same number would keep close-on-exec: move it out of the way first.
    if (theirs.get() == kGuardSocketFd)
        theirs.reset(::fcntl(theirs.get(), F_DUPFD_CLOEXEC, kGuardSocketFd + 1));
    GODWIT_ASSIGN_OR_RETURN(const pid_t pid, spawn(options, theirs.get()));
    return GuardProcess(pid, std::move(ours), options.log_path);
}

bool GuardProcess::has_ended() const {
    char none = 0;
    return ::recv(socket_.get(), &none, sizeof none, MSG_PEEK | MSG_DONTWAIT) == 0;
}

absl::Status GuardProcess::begin(bool run) {
    begun_ = true;
    const GuardMessage message{.kind = GuardMessageKind::kBegin, .run = run ? 1U : 0U};
    const ssize_t sent = ::send(socket_.get(), &message, sizeof message, MSG_NOSIGNAL);
    const absl::Status begun = sent < 0 ? errno_status(errno, "The guard has ended")
                                        : await(socket_.get(), GuardMessageKind::kReady);
    return annotate(begun, fmt::format("guard log {}", log_path_));
}

absl::Status await_guard_end(const std::string& word_path, MonotonicTime deadline) {
    constexpr Duration kLookAgain = std::chrono::milliseconds(20);
    const UniqueFd word(::open(word_path.c_str(), O_RDWR | O_CLOEXEC));
    if (!word.valid()) return errno_status(errno, fmt::format("Cannot open {}", word_path));
    while (::flock(word.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return errno_status(errno, fmt::format("Cannot lock {}", word_path));
        if (Clock::system().now() >= deadline)
            return absl::DeadlineExceededError("The guard of an earlier agent is still at work");
        (void)wait_readable(-1, -1, Clock::system().now() + kLookAgain);
    }
    return absl::OkStatus();
}

GuardProcess::~GuardProcess() { dismiss(); }

absl::Status GuardProcess::arm(MonotonicTime deadline) {
    GuardMessage message{.kind = GuardMessageKind::kArm,
                         .deadline_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                            deadline.time_since_epoch())
                                            .count()};
    if (::send(socket_.get(), &message, sizeof message, MSG_NOSIGNAL) < 0)
        return errno_status(errno, "The guard has ended");
    return await(socket_.get(), GuardMessageKind::kArmed);
}

void GuardProcess::dismiss() {
    if (!socket_.valid()) return;
    GuardMessage message{.kind = GuardMessageKind::kDismiss};
    (void)::send(socket_.get(), &message, sizeof message, MSG_NOSIGNAL);
    const UniqueFd gone(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    const MonotonicTime deadline = Clock::system().now() + kDismissLimit;
    // One that has not begun holds nothing, and may be loading still.
    if (!begun_ || (gone.valid() && !wait_readable(gone.get(), -1, deadline).ok()))
        ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    socket_.reset();
}

}  // namespace godwit
