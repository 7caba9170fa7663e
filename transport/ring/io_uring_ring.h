// IoUringRing: transfers that the kernel goes on with by itself.
//
// The buffers are not registered with the kernel: a plain send copies out of user memory whether
// they are or not, and each stream would take 4 MiB of RLIMIT_MEMLOCK (8 MiB by default).
//
// A send without a copy has two completions: its result, and a notification that the kernel reads
// the bytes no more, which comes with the peer's acknowledgement. So that the link does not idle
// meanwhile, the next send begins after the first, and only then waits for the second.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "transport/ring/ring.h"

struct io_uring;
struct io_uring_cqe;

namespace godwit {

class IoUringRing final : public Ring {
  public:
    // Errors: PermissionDenied or Unimplemented when io_uring is forbidden here, with what forbids
    // it; ResourceExhausted.
    static absl::StatusOr<std::unique_ptr<IoUringRing>> create();

    // Ok when the kernel has all that is needed, and lets this process use it. Errors: create()'s;
    // Unimplemented when it is too old; whatever a trial over a socket pair brought.
    static absl::Status probe();

    void allow_zero_copy(ZeroCopyGauge::Use use) override { gauge_.allow(use); }
    [[nodiscard]] const ZeroCopyGauge* zero_copy() const override { return &gauge_; }

  private:
    struct Deleter {
        void operator()(io_uring* ring) const;
    };
    using Handle = std::unique_ptr<io_uring, Deleter>;

    explicit IoUringRing(Handle ring);
    [[nodiscard]] absl::Status check_operations() const;
    absl::StatusOr<size_t> begin(const Transfer& transfer) override;
    static size_t carry_at_once(const Transfer& transfer);
    absl::StatusOr<ssize_t> wait(const Transfer& transfer) override;
    absl::Status release(int socket) override;
    absl::Status submit();
    absl::Status release_earlier(int socket);
    void note(const io_uring_cqe& completion);

    Handle ring_;
    ZeroCopyGauge gauge_;
    uint64_t request_ = 0;         // number of the newest request
    std::optional<int> result_;    // of the newest request, when it has come
    bool sent_zero_copy_ = false;  // how the newest request was made
    // Notifications that are still to come: of the newest request, of those before it.
    unsigned own_due_ = 0;
    unsigned earlier_due_ = 0;
};

}  // namespace godwit
