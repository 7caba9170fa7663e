#include "bench/lab/engine.h"

#include <fmt/format.h>

#include "bench/lab/fleet_engine.h"
#include "bench/lab/floor_engine.h"
#include "bench/lab/godwit_engine.h"
#include "bench/lab/libvirt_engine.h"
#include "bench/lab/qemu_engine.h"
#include "bench/lab/stay_engine.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kBootLimit = std::chrono::seconds(120);
constexpr Duration kCheckCancelEvery = std::chrono::milliseconds(5);

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> make_engine(const EngineName& name, const LabSetup& setup) {
    switch (name.kind) {
        case EngineKind::kFloor:
            return std::make_unique<FloorEngine>(setup);
        case EngineKind::kCopy:
        case EngineKind::kMicro:
            return absl::InternalError(fmt::format("{} has no guest", name.text));
        case EngineKind::kStay:
            return std::make_unique<StayEngine>(name, setup);
        case EngineKind::kQemu:
            return std::make_unique<QemuEngine>(name, setup);
        case EngineKind::kLibvirt:
            return std::make_unique<LibvirtEngine>(name, setup);
        case EngineKind::kGodwit:
            return std::make_unique<GodwitEngine>(name.strategy, setup);
        case EngineKind::kFleet:
            return std::make_unique<FleetEngine>(name, setup);
    }
    return absl::InternalError("an engine of no kind");
}

absl::Status wait_until_running(const MailboxReader& reader, int cancel_fd) {
    const MonotonicTime deadline = Clock::system().now() + kBootLimit;
    while (Clock::system().now() < deadline) {
        const auto mailbox = reader.read();
        if (mailbox.ok() && mailbox->state == static_cast<uint64_t>(GuestState::kRunning))
            return absl::OkStatus();
        if (mailbox.ok() && mailbox->state > static_cast<uint64_t>(GuestState::kRunning))
            return absl::FailedPreconditionError(fmt::format("the guest: {}", mailbox->message));
        // The guest tells nobody when it writes its mailbox.
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + kCheckCancelEvery);
        if (absl::IsCancelled(waited)) return waited;
    }
    return absl::DeadlineExceededError("the guest did not boot");
}

}  // namespace godwit
