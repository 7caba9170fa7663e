// LibvirtEngine: libvirt's own migration by `virsh migrate`, of a domain with private memory.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/lab/engine.h"
#include "bench/lab/event_board.h"
#include "bench/lab/libvirt_pair.h"

namespace godwit {

class LibvirtEngine : public Engine {
  public:
    LibvirtEngine(EngineName name, const LabSetup& setup);
    ~LibvirtEngine() override;

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override {
        return {sides_[0].ticks, sides_[1].ticks};
    }
    // The last page is there when both QEMUs say so; `command_ms` is all of `virsh migrate`.
    absl::StatusOr<Metrics> move() override;
    absl::StatusOr<Metrics> details() override;
    absl::StatusOr<nlohmann::json> series() override;
    absl::StatusOr<MailboxReader> mailbox() override;
    absl::StatusOr<CpuSeconds> cpu() override { return setup_.libvirt->cpu(); }

  private:
    struct SideState {
        std::shared_ptr<ProcessTicks> ticks = std::make_shared<ProcessTicks>();
        std::optional<Child> events;  // virsh qemu-monitor-event
        pid_t pid = -1;
        uint64_t mailbox = 0;
    };
    absl::Status start_domain();
    // False while QEMU, or its memory, is not there yet.
    bool find_guest(int which);
    absl::Status set_downtime_limit();
    absl::Status follow(Child& virsh, MonotonicTime deadline);
    [[nodiscard]] std::vector<SeenEvent> events() const;
    // Errors: DeadlineExceeded, Cancelled.
    [[nodiscard]] absl::StatusOr<SeenEvent> event(Side side, const char* name,
                                                  const char* status) const;

    const EngineName name_;
    const LabSetup setup_;
    const std::string domain_;
    std::array<SideState, 2> sides_;
    bool moved_ = false;
    MonotonicTime requested_;
};

}  // namespace godwit
