// DelayRelay: the length of a cable: packets between two TUN devices arrive so much later, in
// either direction. For kernels without netem.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"
#include "engine/base/wait.h"

namespace godwit {

// A thread for each direction. Thread rule: made and ended by one thread.
class DelayRelay {
  public:
    struct Options {
        std::array<UniqueFd, 2> ends;  // datagrams: TUN devices (IFF_NO_PI), or seqpacket sockets
        Duration delay{};              // of one direction
        Bytes capacity = 0;            // under way in one direction; more is dropped
    };
    // Errors: eventfd's, fcntl's.
    static absl::StatusOr<std::unique_ptr<DelayRelay>> start(Options options);
    ~DelayRelay();

    [[nodiscard]] uint64_t dropped_packets() const { return dropped_; }

  private:
    DelayRelay(Options options, Wakeup stopping)
        : options_(std::move(options)), stopping_(std::move(stopping)) {}
    void carry(size_t from);

    const Options options_;
    const Wakeup stopping_;
    std::atomic<uint64_t> dropped_ = 0;
    std::array<std::jthread, 2> threads_;
};

// A TUN device of that name in the network namespace of this thread. Errors: NotFound without
// /dev/net/tun; PermissionDenied.
absl::StatusOr<UniqueFd> open_tun(const char* name);

}  // namespace godwit
