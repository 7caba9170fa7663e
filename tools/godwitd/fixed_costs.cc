#include "tools/godwitd/fixed_costs.h"

#include <algorithm>

namespace godwit {
namespace {

constexpr size_t kFixedCostSamples = 5;
// Stock QEMU was never seen to save and load its devices in less.
constexpr Duration kShortestPause = std::chrono::milliseconds(3);

}  // namespace

void FixedCosts::note(const v1::MigrationReport& report) {
    if (report.outcome() != v1::OUTCOME_DONE) return;
    const v1::Downtime& parts = report.downtime();
    // Without stop_to_quiet: how long the disk takes, each migration sees for itself.
    const double fixed_ms = parts.collect_ms() + parts.device_state_ms() + parts.commit_ms();
    // A report from the disk may have any number.
    if (!(fixed_ms > 0) || fixed_ms > 1e6) return;
    last_.push_back(Duration(static_cast<int64_t>(fixed_ms * 1e6)));
    if (last_.size() > kFixedCostSamples) last_.pop_front();
}

Duration FixedCosts::expect(Duration downtime_limit) const {
    std::deque<Duration> sorted = last_;
    std::sort(sorted.begin(), sorted.end());
    return std::min(sorted[(sorted.size() - 1) / 2], std::max(downtime_limit / 2, kShortestPause));
}

}  // namespace godwit
