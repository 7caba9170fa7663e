// DeviceStatePump: carries QEMU's device state from its descriptor to the urgent stream.
#pragma once

#include <atomic>
#include <thread>

#include "engine/base/unique_fd.h"
#include "engine/source/signals.h"
#include "transport/stream/frame_writer.h"

namespace godwit {

class DeviceStatePump {
  public:
    // Makes the pair of sockets and starts to carry. `writer` and `signals` must outlive it.
    static absl::StatusOr<std::unique_ptr<DeviceStatePump>> start(FrameWriter& writer,
                                                                  SourceSignals& signals);
    // Stops carrying; QEMU then sees its stream break if it still writes.
    ~DeviceStatePump();
    DeviceStatePump(const DeviceStatePump&) = delete;
    DeviceStatePump& operator=(const DeviceStatePump&) = delete;

    // The end for QEMU; once.
    UniqueFd take_guest_end() { return std::move(guest_end_); }
    [[nodiscard]] Bytes carried_bytes() const { return carried_bytes_; }

  private:
    DeviceStatePump(UniqueFd ours, UniqueFd guest_end)
        : ours_(std::move(ours)), guest_end_(std::move(guest_end)) {}
    absl::Status carry(FrameWriter& writer);

    UniqueFd ours_;
    UniqueFd guest_end_;
    std::atomic<Bytes> carried_bytes_{0};
    std::jthread thread_;
};

}  // namespace godwit
