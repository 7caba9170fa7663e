// LyingCable: a cable that changes what is sent through it, in a way that TCP does not notice.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"

namespace godwit::testing {

// Two TUN devices, each in the network namespace of a process, and a thread between them. Two words
// of a packet change places: the sum of its words, which is TCP's checksum, stays what it was.
class LyingCable {
  public:
    // `device`: what both are called. Errors: those of /dev/net/tun, setns.
    static absl::StatusOr<std::unique_ptr<LyingCable>> lay(const std::array<pid_t, 2>& hosts,
                                                           const std::string& device);
    ~LyingCable();

    // Of the TCP segments with 1000 bytes or more from host 0 to host 1, but for those in which a
    // frame begins: each `every`th (0: none), after the first 200, and `most` altogether.
    void lie(uint64_t every, uint64_t most);
    // How many were changed.
    [[nodiscard]] uint64_t lies() const { return lies_; }

  private:
    LyingCable(std::array<UniqueFd, 2> ends, Wakeup stopping)
        : ends_(std::move(ends)), stopping_(std::move(stopping)) {}
    void carry();
    void pass(size_t from);

    const std::array<UniqueFd, 2> ends_;
    const Wakeup stopping_;
    std::atomic<uint64_t> every_{0};
    std::atomic<uint64_t> most_{0};
    std::atomic<uint64_t> lies_{0};
    uint64_t seen_ = 0;  // the thread's
    std::jthread thread_;
};

}  // namespace godwit::testing
