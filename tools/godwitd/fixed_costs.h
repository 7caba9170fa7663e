// FixedCosts: what a pause takes beside its pages, as the last migrations had it. Pure.
#pragma once

#include <deque>

#include "engine/base/clock.h"
#include "godwit/v1/report.pb.h"

namespace godwit {

// Not thread-safe.
class FixedCosts {
  public:
    // A migration has ended; does nothing unless it was done.
    void note(const v1::MigrationReport& report);
    // The lower median of the last five: one pause of a busy moment says nothing about the next. At
    // most half the limit, or 3 ms: else no migration would be tried from which to learn better.
    [[nodiscard]] Duration expect(Duration downtime_limit) const;

  private:
    std::deque<Duration> last_{std::chrono::milliseconds(15)};  // DESIGN: 9–12 ms seen
};

}  // namespace godwit
