// GodwitEngine: Godwit as an operator uses it: two agents and the command line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/agent_pair.h"
#include "bench/lab/engine.h"

namespace godwit {

class GodwitEngine : public Engine {
  public:
    GodwitEngine(std::string strategy, const LabSetup& setup);
    ~GodwitEngine() override;

    absl::Status start_guest() override;
    std::vector<std::shared_ptr<TickSource>> ticks() override;
    absl::StatusOr<Metrics> move() override;
    absl::StatusOr<Metrics> details() override;
    absl::StatusOr<nlohmann::json> series() override;
    absl::StatusOr<MailboxReader> mailbox() override;
    absl::StatusOr<CpuSeconds> cpu() override;
    // It was moved by another command than move().
    void note_moved() { moved_ = true; }
    // Its name at the agents.
    [[nodiscard]] const std::string& vm() const { return vm_; }

  private:
    absl::StatusOr<std::string> write_vm_file() const;
    [[nodiscard]] std::vector<std::string> migrate_words() const;

    const std::string strategy_;
    const LabSetup setup_;
    const std::string vm_;
    bool started_ = false;
    bool moved_ = false;
    int64_t requested_unix_ms_ = 0;
    nlohmann::json report_;  // once details() was asked
};

// The VM file of the guest.
std::string lab_vm_file(const std::string& name, const GuestConfig& guest);
// Every number in a report by its path ("downtime.commit_ms", "rounds" counted), and the main ones
// by the lab's own names as well; what a report does not have is absent. A report counts from when
// the agent began, total_ms, prepare_ms and prediction.total_ms.mid here from the request, which
// was `lead_ms` before that; reported_total_ms is the report's own.
Metrics godwit_metrics(const nlohmann::json& report, double lead_ms);
// Its rounds with when each began, what r was and what was decided; quantiles of fault latency.
nlohmann::json godwit_series(const nlohmann::json& report, double lead_ms);
// From a request at this time until the agent began. Both clocks are of whole milliseconds.
double godwit_lead_ms(const nlohmann::json& report, int64_t requested_unix_ms);

}  // namespace godwit
