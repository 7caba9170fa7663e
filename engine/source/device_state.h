// DeviceStatePump: carries QEMU's device state from its descriptor to the urgent stream.
#pragma once

#include <atomic>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/handover/step_hook.h"
#include "engine/source/signals.h"
#include "transport/stream/frame_writer.h"

namespace godwit {

class DeviceStatePump {
  public:
    // Makes the pair of sockets and starts to carry. All arguments must outlive it.
    static absl::StatusOr<std::unique_ptr<DeviceStatePump>> start(FrameWriter& writer,
                                                                  SourceSignals& signals,
                                                                  const StepHook& at_step);
    // Stops carrying; QEMU then sees its stream break if it still writes.
    ~DeviceStatePump();
    DeviceStatePump(const DeviceStatePump&) = delete;
    DeviceStatePump& operator=(const DeviceStatePump&) = delete;

    // The end for QEMU; once.
    UniqueFd take_guest_end() { return std::move(guest_end_); }
    // From here on it is state of a frozen guest that is carried.
    void guest_is_frozen() { frozen_ = true; }
    [[nodiscard]] Bytes carried_bytes() const { return carried_bytes_; }

  private:
    DeviceStatePump(UniqueFd ours, UniqueFd guest_end)
        : ours_(std::move(ours)), guest_end_(std::move(guest_end)) {}
    absl::Status carry(FrameWriter& writer, const StepHook& at_step);

    UniqueFd ours_;
    UniqueFd guest_end_;
    std::atomic<Bytes> carried_bytes_{0};
    std::atomic<bool> frozen_{false};
    std::jthread thread_;
};

}  // namespace godwit
