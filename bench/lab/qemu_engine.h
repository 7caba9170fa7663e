// QemuEngine: QEMU's own migration, each mode in its best configuration.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/lab/engine.h"
#include "bench/lab/peer.h"

namespace godwit {

class QemuEngine : public Engine {
  public:
    QemuEngine(EngineName name, const LabSetup& setup);
    ~QemuEngine() override;

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override;
    absl::StatusOr<Metrics> move() override;
    absl::StatusOr<Metrics> details() override;
    absl::StatusOr<nlohmann::json> series() override { return series_; }
    absl::StatusOr<MailboxReader> mailbox() override;
    absl::StatusOr<CpuSeconds> cpu() override { return cpu_of_both(source_, destination_); }

  private:
    absl::StatusOr<std::unique_ptr<Peer>> start_peer(Side side);
    absl::StatusOr<std::string> prepare();
    absl::Status begin_postcopy(MonotonicTime deadline);
    absl::StatusOr<Metrics> follow(MonotonicTime requested, MonotonicTime begun);

    const EngineName name_;
    const LabSetup setup_;
    std::string source_file_, destination_file_;                      // shared RAM only
    std::shared_ptr<ProcessTicks> source_ticks_, destination_ticks_;  // private RAM only
    uint64_t source_mailbox_ = 0, destination_mailbox_ = 0;           // private RAM only
    std::unique_ptr<EventBoard> board_;
    std::unique_ptr<Peer> source_, destination_;
    bool moved_ = false;
    MonotonicTime requested_;
    nlohmann::json series_ = nlohmann::json::object();  // once details() was asked
};

// Capabilities of both sides of a mode.
std::vector<std::string> qemu_capabilities(QemuMode mode);
// Parameters of the source (migrate-set-parameters).
Json qemu_parameters(QemuMode mode, Bytes bandwidth, Duration downtime_limit, Bytes guest_memory);
// What query-migrate says afterwards, by the lab's names; what a version of QEMU does not say is
// absent.
Metrics qemu_metrics(QemuMode mode, const Json& source, const Json& destination);

// When its passes over memory began and how long each took, from `requested` on; the distribution
// of fault latency where this version of QEMU tells it.
nlohmann::json qemu_series(const std::vector<SeenEvent>& events, MonotonicTime requested,
                           const Json& destination);

}  // namespace godwit
