// FleetEngine: several guests of one host, moved by one command: `godwit migrate --vms`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/lab/godwit_engine.h"

namespace godwit {

// The first guest is the one that is watched; each is asked afterwards whether its memory is whole.
class FleetEngine : public Engine {
  public:
    FleetEngine(const EngineName& name, const LabSetup& setup);

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override { return guests_[0]->ticks(); }
    absl::StatusOr<Metrics> move() override;
    // Errors: DataLoss when a guest's memory is damaged, or it does not go on.
    absl::StatusOr<Metrics> details() override;
    absl::StatusOr<MailboxReader> mailbox() override { return guests_[0]->mailbox(); }
    absl::StatusOr<CpuSeconds> cpu() override { return guests_[0]->cpu(); }

  private:
    [[nodiscard]] std::vector<std::string> migrate_words() const;

    const EngineName name_;
    const LabSetup setup_;
    std::vector<std::unique_ptr<GodwitEngine>> guests_;
    nlohmann::json told_;  // by the command
};

// Of what `godwit migrate --vms --json` prints: total_ms (from the command's begin, its look at
// what the guests write included), sampling_ms, expected_ms, outage_ms, at_a_time, downtime_ms (the
// longest of any guest), downtime_sum_ms, limits_missed (guests whose pause was longer than
// `limit_ms`, and those that did not arrive), wire_bytes of all.
Metrics fleet_metrics(const nlohmann::json& told, double limit_ms);

}  // namespace godwit
