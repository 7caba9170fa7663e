// MailboxReader: reads the test guest's mailbox out of its RAM file.
#pragma once

#include <string>

#include "bench/guest/mailbox_layout.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// Reads with pread, so looking allocates no page and triggers no userfaultfd. Thread-safe.
class MailboxReader {
  public:
    // Opens the RAM file of the guest. Errors: open's.
    static absl::StatusOr<MailboxReader> open(const std::string& path);

    // The mailbox as it is now. The guest goes on writing meanwhile: each field is whole, but two
    // fields may be from different moments. Errors: FailedPrecondition when there is no mailbox
    // (yet) or it is of another version; OutOfRange when the file is too short; pread's.
    [[nodiscard]] absl::StatusOr<Mailbox> read() const;

  private:
    explicit MailboxReader(UniqueFd file) : file_(std::move(file)) {}
    UniqueFd file_;
};

}  // namespace godwit
