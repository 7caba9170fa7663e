// Running a program to its end, or in the background, from a test.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/unique_fd.h"

namespace godwit::testing {

struct CommandResult {
    int exit_code = -1;  // 128 + signal when it was killed
    std::string out;
    std::string err;
};

// A child process with its output in files. Killed by pid when it still runs at the end.
class BackgroundCommand {
  public:
    explicit BackgroundCommand(std::vector<std::string> argv);
    ~BackgroundCommand();
    BackgroundCommand(BackgroundCommand&& other) noexcept;
    BackgroundCommand& operator=(BackgroundCommand&&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    void signal(int number) const;
    // True when it has ended within `limit`.
    bool wait(Duration limit);
    // What it has written so far; after wait() also its exit code.
    CommandResult result();

  private:
    pid_t pid_ = -1;
    int exit_code_ = -1;
    bool ended_ = false;
    UniqueFd pidfd_;
    UniqueFd out_;
    UniqueFd err_;
};

// Runs to the end; killed after `limit`, and the test fails.
CommandResult run_command(const std::vector<std::string>& argv,
                          Duration limit = std::chrono::seconds(120));

// The path of one of the project's programs, or of another file in its bin directory.
std::string program(const std::string& name);

// Looks every few ms whether `done` holds, at most `limit` long.
bool eventually(Duration limit, const std::function<bool()>& done);

}  // namespace godwit::testing
