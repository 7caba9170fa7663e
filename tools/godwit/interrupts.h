// Ctrl-C as something to wait for.
#pragma once

#include "engine/base/unique_fd.h"

namespace godwit {

// SIGINT and SIGTERM as a descriptor, one at a time.
class Interrupts {
  public:
    // Keeps them from ending the process; to be called before any other thread exists.
    static void block();

    Interrupts();
    // Readable when one has come.
    [[nodiscard]] int fd() const { return fd_.get(); }
    void drain() const;

  private:
    UniqueFd fd_;
};

}  // namespace godwit
