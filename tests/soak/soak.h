// Soak: guests that go there and back between two agents, for as long as it is asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/lab/lab.h"
#include "tests/soak/soak_options.h"
#include "tests/soak/traveller.h"
#include "tests/soak/vitals.h"

namespace godwit {

// Now and then all guests are home, and the agents are looked at. Thread rule: one thread.
class Soak {
  public:
    Soak(SoakOptions options, Lab& lab);

    // Errors: what was found, with all that is needed to do it again; Cancelled by Ctrl-C.
    absl::Status run();
    // What has been done, in one line, and whether the agents stayed as they were.
    [[nodiscard]] std::string summary() const;
    // Writes what there is to read of a finding. Errors: of the file system.
    [[nodiscard]] absl::Status keep() const;

  private:
    void invite();  // the guests
    absl::Status boot();
    absl::Status travel();
    [[nodiscard]] uint64_t trips() const;
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] bool all_home() const;
    // Waits for a guest, for the time, or for Ctrl-C (Cancelled).
    [[nodiscard]] absl::Status wait() const;
    // Waits until nothing is left of the trips but the guests. Error: DataLoss, something is.
    [[nodiscard]] absl::StatusOr<Vitals> settle() const;
    absl::Status rest();
    // Error: DataLoss, an agent leaks.
    [[nodiscard]] absl::Status check_flat() const;

    const SoakOptions options_;
    Lab& lab_;
    const std::unique_ptr<AgentPair> agents_;
    const int interrupt_;
    std::vector<Traveller> guests_;
    MonotonicTime began_{};
    uint64_t trips_at_rest_ = 0;
    std::vector<Vitals> rests_;  // of both agents together
};

}  // namespace godwit
