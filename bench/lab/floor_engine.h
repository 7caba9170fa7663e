// FloorEngine: the shortest pause that stock QEMU allows: device state alone, no RAM moved. Both
// QEMUs map the very same RAM file, and the guest may run as soon as both have done their part.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/lab/engine.h"
#include "bench/lab/peer.h"

namespace godwit {

class FloorEngine : public Engine {
  public:
    explicit FloorEngine(const LabSetup& setup);
    ~FloorEngine() override;

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override;
    absl::StatusOr<Metrics> move() override;
    absl::StatusOr<MailboxReader> mailbox() override;
    absl::StatusOr<CpuSeconds> cpu() override { return cpu_of_both(source_, destination_); }

  private:
    absl::StatusOr<std::string> prepare();
    absl::StatusOr<Metrics> follow(MonotonicTime requested, MonotonicTime begun);

    const LabSetup setup_;
    std::string file_;
    std::unique_ptr<EventBoard> board_;
    std::unique_ptr<Peer> source_, destination_;
};

}  // namespace godwit
