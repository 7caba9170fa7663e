// U(t): how many distinct pages a guest writes within a window of length t. A page that is written
// again within the window counts once, which is why U bends: the more of the working set was
// written, the fewer writes are news (Akoush et al., MASCOTS'10, and Nathan et al., SoCC'15, found
// the same to decide how long a migration takes).
//
// The fit: samples of nearly the same window are one point; points are made monotone, then the
// slopes between them falling (both by pooling adjacent violators), from U(0) = 0 on. Between
// points U is linear, beyond the last it goes on with the last slope, and it never exceeds the
// touched RAM.
#pragma once

#include <span>
#include <vector>

#include "engine/model/forecast.h"

namespace godwit {

struct DirtySample {
    double window_s = 0;
    double pages = 0;  // distinct pages written within it
    // How these lie: in so many runs, in so many chunks; 0: not known.
    double runs = 0;
    double chunks = 0;
};

class DirtyCurve {
  public:
    struct Point {
        double window_s = 0;
        double pages = 0;
    };

    DirtyCurve() = default;  // an idle guest: U = 0

    // From points with growing windows. Errors: InvalidArgument (none, not growing, absurd).
    static absl::StatusOr<DirtyCurve> through(std::vector<Point> points, double touched_pages);

    // Monotone, concave; 0 at 0.
    [[nodiscard]] double pages(double window_s) const;
    // The integral of U over 0 to window_s, divided by window_s: the mean of U in between.
    [[nodiscard]] double mean_pages(double window_s) const;
    [[nodiscard]] const std::vector<Point>& points() const { return points_; }
    // Of a guest that never rests, what it wrote if each page's first write did not cost it
    // `first_write_s`: two thirds of its fastest writing at most.
    [[nodiscard]] DirtyCurve unhindered(double first_write_s) const;
    // The part of first_write_s that unhindered() takes away.
    [[nodiscard]] double first_write(double first_write_s) const;

  private:
    std::vector<Point> points_;
    double most_pages_ = 0;
};

// The curve as measured, and what the 10th and 90th percentiles of each window's samples give.
struct DirtyCurves {
    DirtyCurve low;
    DirtyCurve mid;
    DirtyCurve high;
};

// Errors: InvalidArgument where there is no sample, a window is not positive, or a number is
// absurd. Samples with 0 pages are an idle guest, which is no error.
absl::StatusOr<DirtyCurves> fit_dirty_curves(std::span<const DirtySample> samples,
                                             double touched_pages);

}  // namespace godwit
