#include "engine/model/dirty_curve.h"

#include <algorithm>
#include <cmath>

namespace godwit {
namespace {

// Windows that differ by less than this are one: no sampler is exact.
constexpr double kSameWindow = 1.05;
constexpr double kShortestWindow_s = 1e-6;
// Of a guest's time. Seen of one that did nothing else: 16 of 23 us a page.
constexpr double kMostHindered = 2.0 / 3;

struct Pool {
    double weight = 0;
    double mean = 0;
    size_t members = 0;
};

// Weighted isotonic regression: pools neighbours until the means grow (or fall).
void pool_violators(std::vector<double>& values, const std::vector<double>& weights, bool grow) {
    std::vector<Pool> pools;
    for (size_t i = 0; i < values.size(); ++i) {
        pools.push_back({weights[i], values[i], 1});
        while (pools.size() > 1) {
            Pool& left = pools[pools.size() - 2];
            const Pool& right = pools.back();
            if (grow ? left.mean <= right.mean : left.mean >= right.mean) break;
            const double weight = left.weight + right.weight;
            left.mean = (left.mean * left.weight + right.mean * right.weight) / weight;
            left.weight = weight;
            left.members += right.members;
            pools.pop_back();
        }
    }
    size_t at = 0;
    for (const Pool& pool : pools)
        for (size_t i = 0; i < pool.members; ++i) values[at++] = pool.mean;
}

// Of sorted values, between neighbours in proportion.
double quantile(const std::vector<double>& sorted, double q) {
    const double place = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - static_cast<double>(below));
}

// The samples of one window.
struct Bucket {
    double window_s = 0;  // mean
    std::vector<double> pages;
};

std::vector<Bucket> buckets_of(std::vector<DirtySample> samples) {
    std::sort(samples.begin(), samples.end(),
              [](const auto& a, const auto& b) { return a.window_s < b.window_s; });
    std::vector<Bucket> buckets;
    double first_s = 0;
    for (const DirtySample& sample : samples) {
        if (buckets.empty() || sample.window_s > first_s * kSameWindow) {
            buckets.emplace_back();
            first_s = sample.window_s;
        }
        Bucket& bucket = buckets.back();
        const auto count = static_cast<double>(bucket.pages.size());
        bucket.window_s = (bucket.window_s * count + sample.window_s) / (count + 1);
        bucket.pages.push_back(sample.pages);
    }
    for (Bucket& bucket : buckets) std::sort(bucket.pages.begin(), bucket.pages.end());
    return buckets;
}

double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
}

// One curve through the buckets' mean (quantile < 0) or quantile.
absl::StatusOr<DirtyCurve> curve_of(const std::vector<Bucket>& buckets, double q,
                                    double touched_pages) {
    std::vector<double> values;
    std::vector<double> weights;
    for (const Bucket& bucket : buckets) {
        values.push_back(q < 0 ? mean_of(bucket.pages) : quantile(bucket.pages, q));
        weights.push_back(static_cast<double>(bucket.pages.size()));
    }
    pool_violators(values, weights, true);
    std::vector<double> slopes;
    std::vector<double> lengths;
    double before_s = 0;
    double before_pages = 0;
    for (size_t i = 0; i < buckets.size(); ++i) {
        lengths.push_back(buckets[i].window_s - before_s);
        slopes.push_back((values[i] - before_pages) / lengths.back());
        before_s = buckets[i].window_s;
        before_pages = values[i];
    }
    pool_violators(slopes, lengths, false);
    std::vector<DirtyCurve::Point> points;
    double pages = 0;
    for (size_t i = 0; i < buckets.size(); ++i) {
        pages += slopes[i] * lengths[i];
        points.push_back({buckets[i].window_s, std::min(pages, touched_pages)});
    }
    return DirtyCurve::through(std::move(points), touched_pages);
}

}  // namespace

absl::StatusOr<DirtyCurve> DirtyCurve::through(std::vector<Point> points, double touched_pages) {
    GODWIT_RETURN_IF_ERROR(check_range("number of touched pages", touched_pages, 0, kMostPages));
    if (points.empty())
        return absl::InvalidArgumentError(
            "There is no dirty data to predict from: sample for longer");
    Point before;
    for (const Point& point : points) {
        GODWIT_RETURN_IF_ERROR(
            check_range("window in seconds", point.window_s, kShortestWindow_s, kLongestTime_s));
        GODWIT_RETURN_IF_ERROR(check_range("number of dirty pages", point.pages, 0, kMostPages));
        if (point.window_s <= before.window_s || point.pages < before.pages)
            return absl::InvalidArgumentError("The points of a dirty curve do not grow");
        before = point;
    }
    DirtyCurve curve;
    curve.points_ = std::move(points);
    curve.most_pages_ = touched_pages;
    return curve;
}

double DirtyCurve::pages(double window_s) const {
    if (points_.empty() || window_s <= 0) return 0;
    const auto right =
        std::lower_bound(points_.begin(), points_.end(), window_s,
                         [](const Point& point, double window) { return point.window_s < window; });
    const size_t index = std::min<size_t>(right - points_.begin(), points_.size() - 1);
    const Point from = index == 0 ? Point{} : points_[index - 1];
    const Point to = points_[index];
    const double slope = (to.pages - from.pages) / (to.window_s - from.window_s);
    return std::min(from.pages + slope * (window_s - from.window_s), most_pages_);
}

double DirtyCurve::first_write(double first_write_s) const {
    if (points_.empty() || points_.front().pages <= 0) return 0;
    return std::min(first_write_s,
                    kMostHindered * points_.front().window_s / points_.front().pages);
}

DirtyCurve DirtyCurve::unhindered(double first_write_s) const {
    DirtyCurve curve = *this;
    const double cost_s = first_write(first_write_s);
    double before_s = 0;
    for (Point& point : curve.points_) {
        point.window_s =
            std::max(point.window_s - cost_s * point.pages, before_s + kShortestWindow_s);
        before_s = point.window_s;
    }
    return curve;
}

double DirtyCurve::mean_pages(double window_s) const {
    if (points_.empty() || window_s <= 0) return 0;
    double area = 0;
    Point from;
    double slope = 0;
    for (size_t i = 0; i <= points_.size() && from.window_s < window_s; ++i) {
        // Beyond the last point with the slope that led to it.
        const bool beyond = i == points_.size();
        if (!beyond)
            slope = (points_[i].pages - from.pages) / (points_[i].window_s - from.window_s);
        const double end_s = beyond ? window_s : std::min(points_[i].window_s, window_s);
        const double length_s = end_s - from.window_s;
        const double end_pages = from.pages + slope * length_s;
        // The touched RAM cuts what is above it.
        const double above = std::max(end_pages - most_pages_, 0.0);
        const double above_s =
            above > 0 ? std::min(slope > 0 ? above / slope : length_s, length_s) : 0;
        const double above_begin = std::max(from.pages - most_pages_, 0.0);
        area += (from.pages + end_pages) / 2 * length_s - (above + above_begin) / 2 * above_s;
        from = {.window_s = end_s, .pages = end_pages};
    }
    return area / window_s;
}

absl::StatusOr<DirtyCurves> fit_dirty_curves(std::span<const DirtySample> samples,
                                             double touched_pages) {
    if (samples.empty())
        return absl::InvalidArgumentError(
            "There is no dirty data to predict from: sample for longer");
    for (const DirtySample& sample : samples) {
        GODWIT_RETURN_IF_ERROR(
            check_range("window in seconds", sample.window_s, kShortestWindow_s, kLongestTime_s));
        GODWIT_RETURN_IF_ERROR(check_range("number of dirty pages", sample.pages, 0, kMostPages));
    }
    const std::vector<Bucket> buckets = buckets_of({samples.begin(), samples.end()});
    DirtyCurves curves;
    GODWIT_ASSIGN_OR_RETURN(curves.low, curve_of(buckets, 0.1, touched_pages));
    GODWIT_ASSIGN_OR_RETURN(curves.mid, curve_of(buckets, -1, touched_pages));
    GODWIT_ASSIGN_OR_RETURN(curves.high, curve_of(buckets, 0.9, touched_pages));
    return curves;
}

}  // namespace godwit
