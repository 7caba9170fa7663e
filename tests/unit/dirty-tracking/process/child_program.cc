#include "tests/unit/dirty-tracking/process/child_program.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "engine/base/wait.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<ChildProgram>> ChildProgram::start(
    const std::vector<std::string>& arguments) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0) return errno_status(errno, "pipe2");
    UniqueFd child_in(in[0]);
    UniqueFd to_child(in[1]);
    if (::pipe2(out.data(), O_CLOEXEC) != 0) return errno_status(errno, "pipe2");
    UniqueFd from_child(out[0]);
    UniqueFd child_out(out[1]);
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0) return errno_status(errno, "fork");
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::dup2(child_in.get(), STDIN_FILENO);
        ::dup2(child_out.get(), STDOUT_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    return std::unique_ptr<ChildProgram>(
        new ChildProgram(pid, std::move(to_child), std::move(from_child)));
}

ChildProgram::~ChildProgram() { kill_and_reap(); }

void ChildProgram::kill_and_reap() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
}

std::string ChildProgram::ask(const std::string& line) {
    const std::string text = line + "\n";
    size_t sent = 0;
    while (sent < text.size()) {
        const ssize_t put = ::write(to_child_.get(), text.data() + sent, text.size() - sent);
        if (put <= 0) return "";
        sent += static_cast<size_t>(put);
    }
    return read_line();
}

std::string ChildProgram::read_line() {
    const MonotonicTime deadline = Clock::system().now() + std::chrono::seconds(20);
    size_t end = 0;
    while ((end = received_.find('\n')) == std::string::npos) {
        std::array<char, 4096> piece{};
        if (!wait_readable(from_child_.get(), -1, deadline).ok()) return "";
        const ssize_t got = ::read(from_child_.get(), piece.data(), piece.size());
        if (got <= 0) return "";
        received_.append(piece.data(), static_cast<size_t>(got));
    }
    std::string line = received_.substr(0, end);
    received_.erase(0, end + 1);
    return line;
}

std::vector<pid_t> other_threads(pid_t pid, pid_t kept) {
    std::vector<pid_t> threads;
    std::error_code error;
    const std::string path = "/proc/" + std::to_string(pid) + "/task";
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
        const pid_t thread = std::stoi(entry.path().filename().string());
        if (thread != kept) threads.push_back(thread);
    }
    return threads;
}

}  // namespace godwit
