// Series: several contenders, each run several times, interleaved, and what became of each run.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/json_lines.h"
#include "bench/lab/peer_argv.h"
#include "bench/lab/table.h"

namespace godwit {

// An engine with the guest that it moves.
struct Contender {
    std::string label;
    EngineName engine;
    GuestConfig guest;
};

// Each repeat runs every contender once, in an order shuffled by the seed. Thread rule: one thread.
class Series {
  public:
    using Run = std::function<absl::StatusOr<Metrics>(const Contender&)>;
    struct Options {
        int repeats = 5;
        int warm_up = 1;  // repeats before those that count
        double idle_percent = 0;
        uint64_t seed = 1;
        int cancel_fd = -1;
        nlohmann::json tags = nlohmann::json::object();  // of every JSON line
        std::vector<std::string> shown;                  // metrics, on stderr after each run
    };
    // `run` and `lines` are used by run_all().
    Series(Options options, std::vector<Contender> contenders, Run run, JsonLines& lines);

    // False when it was interrupted: a run returned Cancelled, or `cancel_fd` became readable. What
    // fails is noted and the series goes on; what is not there (Unimplemented) is not tried again.
    bool run_all();
    [[nodiscard]] const std::vector<Results>& results() const { return results_; }

  private:
    bool run_one(size_t index, int repeat);
    void note(size_t index, int repeat, const absl::StatusOr<Metrics>& metrics);
    [[nodiscard]] std::string summary(const absl::StatusOr<Metrics>& metrics) const;

    const Options options_;
    const std::vector<Contender> contenders_;
    const Run run_;
    JsonLines& lines_;
    std::vector<Results> results_;
};

// The order in one repeat, the same for the same seed.
std::vector<size_t> shuffled(size_t count, uint64_t seed, int repeat);

// Whether a run failed that should not have: an exit code of a benchmark.
bool any_failed(const std::vector<Results>& all);

}  // namespace godwit
