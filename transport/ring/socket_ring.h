// SocketRing: the same with plain socket calls. What the socket's buffer takes leaves when a send
// is started; the rest only while somebody waits for it.
#pragma once

#include "transport/ring/ring.h"

namespace godwit {

class SocketRing final : public Ring {
  private:
    absl::StatusOr<size_t> begin(const Transfer& transfer) override;
    absl::StatusOr<ssize_t> wait(const Transfer& transfer) override;
};

}  // namespace godwit
