// The guard: a child process that gives the guest back to the source when its agent can't.
//
// Agent and guard share a socket and the decision word. The guard's program is launched when a
// migration begins, for loading it takes longer than all else that is done between the last round
// and the freeze; it connects to the guest then. The agent arms the guard before the freeze. When
// the agent dies (the socket closes) or the freeze deadline passes, the guard moves the word from
// OPEN to ABORT and makes the guest run again through a connection of its own. It does so too where
// the agent was first to say ABORT and has not dismissed it by then. A word that says COMMIT is
// left alone: the guest then belongs to the destination.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// What the guard asks of the hypervisor; the driver supplies it.
class GuestRescue {
  public:
    virtual ~GuestRescue() = default;
    // Makes the guest run at the source again (or leaves it paused when `run` is false), from any
    // point before COMMIT. Idempotent.
    virtual absl::Status roll_back(bool run, Duration limit) = 0;
    // The agent lives and has let the freeze deadline pass, and the word says ABORT now. Where
    // nobody else can reach the guest as long as it lives, it is ended; called before roll_back().
    virtual absl::Status take_over(Duration limit) {
        static_cast<void>(limit);
        return absl::OkStatus();
    }
};

// Waits until the agent wants a guard. Whether the guest ran, or nothing: the agent needs none, or
// is gone.
std::optional<bool> await_guard_begin(int socket);

// The guard's own side from there on: returns its exit code once it is dismissed or has done its
// work. It keeps the word file locked until its process ends. `socket` is the connection to the
// agent. Never blocks longer than the armed deadline without looking at it.
int run_guard(int socket, const std::string& word_path, bool run, GuestRescue& rescue);

// Waits until no guard of that word is left, so that none acts on what comes later. Errors:
// DeadlineExceeded, those of open().
absl::Status await_guard_end(const std::string& word_path, MonotonicTime deadline);

// The agent's side. Not thread-safe.
class GuardProcess {
  public:
    struct Options {
        std::string program;  // godwit-guard
        std::string word_path;
        std::string guest_address;  // Vm::guard_address()
        std::string log_path;       // the guard's stderr
    };
    // Starts the guard's program in a session of its own. It touches nothing until begin(). Errors:
    // those of posix_spawn.
    static absl::StatusOr<GuardProcess> launch(const Options& options);

    GuardProcess(GuardProcess&&) = default;
    GuardProcess& operator=(GuardProcess&&) = delete;
    // Dismisses it if that has not been done.
    ~GuardProcess();

    // Whether its process has ended by itself.
    [[nodiscard]] bool has_ended() const;
    // Has it connect to the guest, and waits until it has. `run`: whether the guest runs. Errors:
    // the guard's own words, or DeadlineExceeded after 5 s.
    absl::Status begin(bool run);
    // From now on death of the agent, or the deadline, means ABORT. Errors: the guard has died.
    absl::Status arm(MonotonicTime deadline);
    // The migration is decided: the guard ends. Waits up to 2 s for it, if it had begun.
    void dismiss();

    [[nodiscard]] pid_t pid() const { return pid_; }

  private:
    GuardProcess(pid_t pid, UniqueFd socket, std::string log_path)
        : pid_(pid), socket_(std::move(socket)), log_path_(std::move(log_path)) {}

    pid_t pid_ = -1;
    UniqueFd socket_;
    std::string log_path_;
    bool begun_ = false;
};

}  // namespace godwit
