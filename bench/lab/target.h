// Targets: what is asked of one contender beside others, and whether it was met: plain arithmetic.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/lab/table.h"

namespace godwit {

enum class Bound { kAtMost, kAtLeast };

// The ratio of medians ours / theirs is to be at most, or theirs / ours at least, `bound`. Theirs
// is the fastest of `peers`, by its median total_ms.
struct Target {
    std::string metric;
    std::string ours;
    std::vector<std::string> peers;
    Bound kind = Bound::kAtMost;
    double bound = 1;
};

struct Judgement {
    std::string peer;             // the fastest; empty when none of them ran
    std::optional<double> ratio;  // nothing when a side is missing
    int failed = 0;               // runs of ours: then nothing is met
    [[nodiscard]] bool met(const Target& target) const {
        return ratio && failed == 0 &&
               (target.kind == Bound::kAtMost ? *ratio <= target.bound : *ratio >= target.bound);
    }
};

Judgement judge(const Target& target, const std::vector<Results>& all);

// A line for each target whose contender ran: the ratio, what was asked, "met" or "missed".
std::string render_targets(const std::vector<Target>& targets, const std::vector<Results>& all);

}  // namespace godwit
