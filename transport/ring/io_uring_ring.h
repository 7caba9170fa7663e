// IoUringRing: transfers that the kernel goes on with by itself.
//
// The buffers are not registered with the kernel: a plain send copies out of user memory whether
// they are or not, and each stream would take 4 MiB of RLIMIT_MEMLOCK (8 MiB by default).
#pragma once

#include <memory>

#include "transport/ring/ring.h"

struct io_uring;

namespace godwit {

class IoUringRing final : public Ring {
  public:
    // Errors: PermissionDenied or Unimplemented when io_uring is forbidden here, with what forbids
    // it; ResourceExhausted.
    static absl::StatusOr<std::unique_ptr<IoUringRing>> create();

    // Ok when the kernel has all that is needed, and lets this process use it. Errors: create()'s;
    // Unimplemented when it is too old; whatever a trial over a socket pair brought.
    static absl::Status probe();

  private:
    struct Deleter {
        void operator()(io_uring* ring) const;
    };
    using Handle = std::unique_ptr<io_uring, Deleter>;

    explicit IoUringRing(Handle ring);
    [[nodiscard]] absl::Status check_operations() const;
    absl::StatusOr<size_t> begin(const Transfer& transfer) override;
    absl::StatusOr<ssize_t> wait(const Transfer& transfer) override;

    Handle ring_;
};

}  // namespace godwit
