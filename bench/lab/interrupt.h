// Interrupt: SIGINT, SIGTERM and SIGHUP as a descriptor, so that everything that waits can end
// orderly.
#pragma once

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

class Interrupt {
  public:
    // Blocks the signals in this thread and in those that it starts: call it before any other
    // thread is there. Errors: signalfd's.
    static absl::StatusOr<Interrupt> create();
    // Readable once a signal has come; nobody reads it.
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool requested() const;

  private:
    explicit Interrupt(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace godwit
