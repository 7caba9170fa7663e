// A program of the tests that answers one line for each line it is sent.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// Killed and reaped by the destructor; dies with the thread that started it.
class ChildProgram {
  public:
    // `arguments[0]` is the path. Errors: pipe2's, fork's.
    static absl::StatusOr<std::unique_ptr<ChildProgram>> start(
        const std::vector<std::string>& arguments);
    ~ChildProgram();
    ChildProgram(const ChildProgram&) = delete;
    ChildProgram& operator=(const ChildProgram&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    // Sends a line and returns the answer without its newline; "" on end of file or after 20 s.
    std::string ask(const std::string& line);
    // The next line that the program says by itself.
    std::string read_line();
    void kill_and_reap();

  private:
    ChildProgram(pid_t pid, UniqueFd to_child, UniqueFd from_child)
        : pid_(pid), to_child_(std::move(to_child)), from_child_(std::move(from_child)) {}

    pid_t pid_;
    UniqueFd to_child_;
    UniqueFd from_child_;
    std::string received_;
};

// The threads of a process that are not `kept`.
std::vector<pid_t> other_threads(pid_t pid, pid_t kept);

}  // namespace godwit
