// Child: a program that the lab runs and ends; its output is kept in memory.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// Thread rule: one thread, the one that lives longest: the kernel ends the child when the thread
// that started it is gone (through setpriv(1)), so that even kill -9 leaves no child behind. Each
// child has a session of its own, so that Ctrl-C is the lab's business alone, and that where the
// kernel divides CPU time by sessions (autogroup) a QEMU of ours has no smaller part than one that
// an agent started.
class Child {
  public:
    // `keep_fds` stay open under their own numbers. Errors: posix_spawn's, memfd_create's.
    static absl::StatusOr<Child> start(const std::vector<std::string>& argv,
                                       const std::vector<int>& keep_fds = {});
    Child(Child&& other) noexcept;
    Child& operator=(Child&&) = delete;
    ~Child();  // SIGKILL, unless it has ended

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] int pidfd() const { return pidfd_.get(); }
    // Its exit status once it has ended, 128 + signal when it was killed. Errors: DeadlineExceeded,
    // Cancelled when `cancel_fd` (-1: none) became readable first.
    absl::StatusOr<int> wait(MonotonicTime deadline, int cancel_fd);
    // Sends the signal, then SIGKILL when that was not enough after `patience`.
    void end(int signal_number, Duration patience);
    // What it has written so far.
    [[nodiscard]] std::string out() const;
    [[nodiscard]] std::string err() const;

  private:
    Child() = default;

    pid_t pid_ = -1;
    std::optional<int> status_;
    UniqueFd pidfd_, out_, err_;
};

}  // namespace godwit
