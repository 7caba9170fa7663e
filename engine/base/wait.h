// Waiting on descriptors with a deadline and a way to be woken; names for threads.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// An eventfd that wakes whoever waits on fd(). Thread-safe.
class Wakeup {
  public:
    static absl::StatusOr<Wakeup> create();
    // Makes fd() readable; stays so until drain().
    void notify() const;
    void drain() const;
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    explicit Wakeup(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

// Waits until `fd` is readable (or hung up). Errors: DeadlineExceeded, Cancelled when `cancel_fd`
// (-1: none) became readable first, and poll's own.
absl::Status wait_readable(int fd, int cancel_fd, std::optional<MonotonicTime> deadline);

// Names the calling thread for ps, top and debuggers; at most 15 characters are kept.
void set_thread_name(const char* name);

}  // namespace godwit
