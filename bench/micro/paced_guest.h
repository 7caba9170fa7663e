// PacedGuest: the guest that testifies, on one kind of memory, and how fast it writes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/guest/mailbox_reader.h"
#include "bench/guest/tick_source.h"
#include "bench/lab/event_board.h"
#include "bench/lab/peer.h"
#include "engine/guest/qemu/qemu_hypervisor.h"

namespace godwit {

// kPrivate: QEMU's own anonymous memory with transparent huge pages, as it is without us; nothing
// can be tracked there. The others are the agent's.
enum class PacedMemory { kPrivate, kThp, k4k };

struct PacedSetup {
    PacedMemory memory = PacedMemory::kThp;
    Bytes size = 0;
    std::string append;  // the guest's command line
    std::string kernel;
    bool resident = false;
};

// The longest time without a sign of life within each stretch, in milliseconds.
struct Pace {
    double writes_per_s = 0;
    double still_in_first_ms = 0;
    std::vector<double> still_ms;  // of each call of `meanwhile`
};

// Killed at the end. Thread rule: one thread.
class PacedGuest {
  public:
    // Returns when the guest runs. Errors: those of starting it; DeadlineExceeded.
    static absl::StatusOr<std::unique_ptr<PacedGuest>> start(QemuHypervisor& hypervisor,
                                                             const PacedSetup& setup);
    ~PacedGuest();
    PacedGuest(const PacedGuest&) = delete;
    PacedGuest& operator=(const PacedGuest&) = delete;

    // Null on private memory.
    [[nodiscard]] Vm* vm() const { return vm_.get(); }

    using Step = std::function<absl::Status()>;
    // Calls `first` once and then `meanwhile` again and again, for so long; writes count from after
    // `first`. Errors: those of the steps.
    absl::StatusOr<Pace> measure(double seconds, const Step& first, const Step& meanwhile);

  private:
    explicit PacedGuest(QemuHypervisor& hypervisor) : hypervisor_(hypervisor) {}
    absl::Status start_shared(const PacedSetup& setup);
    absl::Status start_private(const PacedSetup& setup);
    absl::Status await_running();
    absl::StatusOr<Mailbox> mailbox();

    QemuHypervisor& hypervisor_;
    std::shared_ptr<Vm> vm_;
    std::unique_ptr<EventBoard> events_;
    std::unique_ptr<Peer> peer_;
    uint64_t address_ = 0;  // of the mailbox in the peer
    std::shared_ptr<TickSource> ticks_;
};

// Sleeps.
void pause_for(double seconds);

}  // namespace godwit
