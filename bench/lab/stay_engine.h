// StayEngine: a guest that is not moved: what its pace is on a kind of memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/lab/engine.h"
#include "bench/lab/peer.h"

namespace godwit {

// "stay": QEMU's private memory; "stay-shared": a file of the guest's backing.
class StayEngine : public Engine {
  public:
    StayEngine(const EngineName& name, const LabSetup& setup);
    ~StayEngine() override;

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override;
    // Nothing but a moment: all figures are about the guest that runs on.
    absl::StatusOr<Metrics> move() override { return Metrics{}; }
    absl::StatusOr<MailboxReader> mailbox() override;
    absl::StatusOr<CpuSeconds> cpu() override { return cpu_of_both(peer_, nullptr); }

  private:
    const LabSetup setup_;
    std::string file_;  // shared memory only
    std::shared_ptr<ProcessTicks> ticks_ = std::make_shared<ProcessTicks>();
    uint64_t mailbox_ = 0;
    std::unique_ptr<EventBoard> board_;
    std::unique_ptr<Peer> peer_;
};

}  // namespace godwit
