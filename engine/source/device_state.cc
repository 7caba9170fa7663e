#include "engine/source/device_state.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "engine/base/wait.h"
#include "transport/frame/bodies.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<DeviceStatePump>> DeviceStatePump::start(FrameWriter& writer,
                                                                        SourceSignals& signals,
                                                                        const StepHook& at_step) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
        return errno_status(errno, "socketpair for device state");
    std::unique_ptr<DeviceStatePump> pump(
        new DeviceStatePump(UniqueFd(pair[0]), UniqueFd(pair[1])));
    pump->thread_ = std::jthread([self = pump.get(), &writer, &signals, &at_step] {
        set_thread_name("device-state");
        const absl::Status status = self->carry(writer, at_step);
        if (!status.ok())
            signals.update([&](SourceSignals::Seen& seen) {
                if (seen.connection.ok()) seen.connection = status;
            });
    });
    return pump;
}

DeviceStatePump::~DeviceStatePump() { ::shutdown(ours_.get(), SHUT_RDWR); }

absl::Status DeviceStatePump::carry(FrameWriter& writer, const StepHook& at_step) {
    std::vector<std::byte> buffer(256 << 10);
    while (true) {
        const ssize_t got = ::read(ours_.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_status(errno, "Cannot read device state from QEMU");
        if (got == 0) break;
        if (frozen_) at_step(step::kDeviceStateLeaves);
        carried_bytes_ += static_cast<Bytes>(got);
        GODWIT_RETURN_IF_ERROR(writer.send(FrameKind::kDeviceState,
                                           std::span(buffer).first(static_cast<size_t>(got))));
    }
    if (carried_bytes_ == 0) return absl::OkStatus();
    return writer.send(FrameKind::kDeviceStateEnd,
                       DeviceStateEndBody{.total_bytes = carried_bytes_}.encode());
}

}  // namespace godwit
