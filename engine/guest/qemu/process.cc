#include "engine/guest/qemu/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr size_t kMaxCaptureBytes = size_t{1} << 20;

// glibc 2.36 declares these two for C alone (its sys/pidfd.h has no extern "C").
UniqueFd pidfd_open(pid_t pid) {
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
}

int pidfd_send_signal(int pidfd, int signal_number) {
    return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal_number, nullptr, 0U));
}

struct Pipe {
    UniqueFd read;
    UniqueFd write;
};

absl::StatusOr<Pipe> make_pipe() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return errno_status(errno, "pipe2");
    return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// All that the child needs, made before the fork: it may call nothing that allocates or locks.
struct ChildPlan {
    const char* program;
    char* const* argv;
    char* const* environment;
    const int* keep_fds;
    size_t keep_count;
    int log_fd;
    int go_fd;      // a byte says go; end of file says that the parent gave up or died
    int parent_fd;  // the parent's end of it
    int result_fd;  // exec's errno; closed by a successful exec
};

[[noreturn]] void fail_child(const ChildPlan& plan, int error_number) {
    (void)!::write(plan.result_fd, &error_number, sizeof error_number);
    ::_exit(127);
}

[[noreturn]] void become(const ChildPlan& plan) {
    for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
    ::setsid();
    ::umask(077);
    ::close(plan.parent_fd);  // else our own copy would keep the end of file away
    char go = 0;
    ssize_t got = 0;
    do got = ::read(plan.go_fd, &go, 1);
    while (got < 0 && errno == EINTR);
    if (got != 1) ::_exit(127);
    const int null_fd = ::open("/dev/null", O_RDWR);
    if (null_fd < 0 || ::chdir("/") != 0 || ::dup2(null_fd, STDIN_FILENO) < 0 ||
        ::dup2(plan.log_fd, STDOUT_FILENO) < 0 || ::dup2(plan.log_fd, STDERR_FILENO) < 0)
        fail_child(plan, errno);
    // Whatever a library opened without CLOEXEC must not leak into a process that outlives us.
    if (::close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC) != 0) fail_child(plan, errno);
    for (size_t i = 0; i < plan.keep_count; ++i)
        if (::fcntl(plan.keep_fds[i], F_SETFD, 0) != 0) fail_child(plan, errno);
    ::execve(plan.program, plan.argv, plan.environment);
    fail_child(plan, errno);
}

// Forks with every signal blocked, so that none of our handlers runs in the child.
pid_t fork_child(const ChildPlan& plan) {
    sigset_t all;
    sigset_t old;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &old);
    const pid_t pid = ::fork();
    if (pid == 0) become(plan);
    const int saved = errno;
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
    errno = saved;
    return pid;
}

// Our own environment with `added` in place of what has the same names; it points into both.
std::vector<char*> environment_with(const std::vector<std::string>& added) {
    std::vector<char*> all;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::string_view name = text.substr(0, text.find('=') + 1);
        const bool replaced = std::any_of(added.begin(), added.end(), [&](const std::string& a) {
            return std::string_view(a).substr(0, name.size()) == name;
        });
        if (!replaced) all.push_back(*entry);
    }
    for (const std::string& entry : added) all.push_back(const_cast<char*>(entry.c_str()));
    all.push_back(nullptr);
    return all;
}

// Lets the child go and waits for its exec.
absl::Status let_go(Pipe& go, Pipe& result, const std::string& program) {
    const char byte = 1;
    if (::write(go.write.get(), &byte, 1) != 1)
        return errno_status(errno, "write to a new process");
    result.write.reset();
    int error_number = 0;
    ssize_t got = 0;
    do got = ::read(result.read.get(), &error_number, sizeof error_number);
    while (got < 0 && errno == EINTR);
    if (got == 0) return absl::OkStatus();
    return errno_status(error_number, fmt::format("Cannot run {}", program));
}

// What /proc/PID/NAME says; empty when the process is gone. One that ends while it is read is
// ESRCH, which an istreambuf_iterator would throw.
std::string process_text(pid_t pid, const char* name) {
    const std::ifstream in(fmt::format("/proc/{}/{}", pid, name), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

}  // namespace

absl::StatusOr<Spawned> spawn(const SpawnRequest& request,
                              const std::function<absl::Status(ProcessId)>& before_exec) {
    std::vector<char*> argv;
    for (const std::string& argument : request.argv)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::vector<char*> environment = environment_with(request.environment);
    GODWIT_ASSIGN_OR_RETURN(Pipe go, make_pipe());
    GODWIT_ASSIGN_OR_RETURN(Pipe result, make_pipe());
    const ChildPlan plan{.program = request.program.c_str(),
                         .argv = argv.data(),
                         .environment = environment.data(),
                         .keep_fds = request.keep_fds.data(),
                         .keep_count = request.keep_fds.size(),
                         .log_fd = request.log_fd,
                         .go_fd = go.read.get(),
                         .parent_fd = go.write.get(),
                         .result_fd = result.write.get()};
    const pid_t pid = fork_child(plan);
    if (pid < 0) return errno_status(errno, "fork");
    Spawned spawned{.id = {.pid = pid}, .pidfd = pidfd_open(pid)};
    if (!spawned.pidfd.valid()) {
        const absl::Status status = errno_status(errno, "pidfd_open");
        go.write.reset();  // the child ends by itself
        ::waitpid(pid, nullptr, 0);
        return status;
    }
    absl::Status status;
    const absl::StatusOr<uint64_t> start_time = process_start_time(pid);
    if (start_time.ok()) {
        spawned.id.start_time = *start_time;
        if (before_exec) status = before_exec(spawned.id);
    } else {
        status = start_time.status();
    }
    if (status.ok()) status = let_go(go, result, request.program);
    if (!status.ok()) {
        end_child(spawned.pidfd.get());
        return status;
    }
    return spawned;
}

absl::StatusOr<std::string> run_and_capture(const std::vector<std::string>& argv, Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    GODWIT_ASSIGN_OR_RETURN(Pipe output, make_pipe());
    GODWIT_ASSIGN_OR_RETURN(
        Spawned spawned,
        spawn({.program = argv.front(), .argv = argv, .log_fd = output.write.get()}, nullptr));
    output.write.reset();
    std::string text;
    absl::Status status;
    std::array<char, 4096> chunk{};
    while (status.ok()) {
        status = wait_readable(output.read.get(), -1, deadline);
        if (!status.ok()) break;
        const ssize_t got = ::read(output.read.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        text.append(chunk.data(), static_cast<size_t>(got));
        if (text.size() > kMaxCaptureBytes)
            status = absl::ResourceExhaustedError("it prints more than 1 MiB");
    }
    if (status.ok()) status = wait_readable(spawned.pidfd.get(), -1, deadline);
    if (!status.ok()) {
        end_child(spawned.pidfd.get());
        return annotate(status, argv.front());
    }
    const std::string end = reap(spawned.pidfd.get()).value_or("lost");
    if (end == "exit status 0") return text;
    return absl::FailedPreconditionError(
        fmt::format("{}: {}: {}", fmt::join(argv, " "), end, text.substr(0, 400)));
}

absl::StatusOr<std::string> find_program(const std::string& program) {
    if (program.find('/') != std::string::npos) {
        if (::access(program.c_str(), X_OK) == 0) return program;
        return absl::NotFoundError(fmt::format("{} is no program that can be run", program));
    }
    const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    std::string rest = path == nullptr ? "/usr/bin:/bin" : path;
    for (size_t end = 0; end != std::string::npos;) {
        end = rest.find(':');
        const std::string candidate = rest.substr(0, end) + "/" + program;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
        if (end != std::string::npos) rest.erase(0, end + 1);
    }
    return absl::NotFoundError(fmt::format("there is no {} in PATH", program));
}

absl::StatusOr<uint64_t> process_start_time(pid_t pid) {
    const std::string line = process_text(pid, "stat");
    // The second field is the name in parentheses, which may hold anything but a later ')'.
    size_t at = line.rfind(')');
    if (at == std::string::npos) return absl::NotFoundError(fmt::format("no process {}", pid));
    for (int field = 2; field < 22 && at != std::string::npos; ++field) at = line.find(' ', at + 1);
    if (at == std::string::npos) return absl::InternalError("/proc/PID/stat is short");
    return std::strtoull(line.c_str() + at + 1, nullptr, 10);
}

absl::StatusOr<UniqueFd> open_process(ProcessId id) {
    if (id.pid <= 0) return absl::NotFoundError("no process");
    UniqueFd pidfd = pidfd_open(id.pid);
    if (!pidfd.valid()) return errno_status(errno, fmt::format("pidfd_open({})", id.pid));
    // Read after the pidfd holds the process: the number cannot change hands in between.
    GODWIT_ASSIGN_OR_RETURN(uint64_t start_time, process_start_time(id.pid));
    if (start_time != id.start_time || has_ended(pidfd.get()))
        return absl::NotFoundError(fmt::format("process {} has ended", id.pid));
    return pidfd;
}

std::string process_command_line(pid_t pid) {
    std::string text = process_text(pid, "cmdline");
    for (char& c : text)
        if (c == '\0') c = '\n';
    return text;
}

bool has_ended(int pidfd) { return wait_readable(pidfd, -1, Clock::system().now()).ok(); }

std::optional<std::string> reap(int pidfd) {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0)
        return std::nullopt;
    if (info.si_code == CLD_EXITED) return fmt::format("exit status {}", info.si_status);
    const char* name = sigabbrev_np(info.si_status);
    return fmt::format("killed by SIG{}", name == nullptr ? "?" : name);
}

void end_child(int pidfd) {
    (void)send_signal(pidfd, SIGKILL);
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED);
}

absl::Status send_signal(int pidfd, int signal_number) {
    if (pidfd_send_signal(pidfd, signal_number) == 0) return absl::OkStatus();
    return errno_status(errno, "pidfd_send_signal");
}

}  // namespace godwit
