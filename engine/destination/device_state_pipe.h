// DeviceStatePipe: hands the device state to QEMU, which reads it as fast as it can.
//
// Whoever brings it never waits: a QEMU that needs a page in the middle of its device state reads
// no further, and the page comes behind the state, on the same stream.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"
#include "engine/base/wait.h"

namespace godwit {

class DeviceStatePipe {
  public:
    // More than QEMU has not read yet is no device state.
    static constexpr Bytes kMaxWaiting = Bytes{256} << 20;

    // `socket`: our end of QEMU's incoming stream.
    static absl::StatusOr<std::unique_ptr<DeviceStatePipe>> create(UniqueFd socket,
                                                                   Bytes max_waiting = kMaxWaiting);
    // What was not read yet is dropped.
    ~DeviceStatePipe();
    DeviceStatePipe(const DeviceStatePipe&) = delete;
    DeviceStatePipe& operator=(const DeviceStatePipe&) = delete;

    // What QEMU does not want any more is dropped: its event says why. Errors: ResourceExhausted;
    // InvalidArgument behind the end.
    absl::Status write(std::span<const std::byte> bytes);
    // QEMU reads the end behind what was written.
    void end();

    [[nodiscard]] Bytes written() const { return written_; }

  private:
    DeviceStatePipe(UniqueFd socket, Wakeup wakeup, Bytes max_waiting);
    void run(const std::stop_token& stop);
    bool hand_over(std::span<const std::byte> bytes, const std::stop_token& stop);

    const UniqueFd socket_;
    const Wakeup wakeup_;
    const Bytes max_waiting_;
    Bytes written_ = 0;

    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<std::vector<std::byte>> parts_;  // guarded by mutex_
    Bytes waiting_ = 0;                         // in parts_; guarded by mutex_
    bool ended_ = false;                        // guarded by mutex_
    std::jthread thread_;
};

}  // namespace godwit
