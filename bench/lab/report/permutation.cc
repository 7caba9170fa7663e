#include "bench/lab/report/permutation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace godwit {
namespace {

constexpr int kMostWays = 20'000;
constexpr double kSame = 1e-12;

// n over k, no more than kMostWays + 1.
int ways(size_t n, size_t k) {
    double count = 1;
    for (size_t i = 1; i <= k; ++i) {
        count = count * static_cast<double>(n - k + i) / static_cast<double>(i);
        if (count > kMostWays) return kMostWays + 1;
    }
    return static_cast<int>(std::lround(count));
}

double delta_of(const std::vector<double>& values, const std::vector<bool>& in_a) {
    std::vector<double> a;
    std::vector<double> b;
    for (size_t i = 0; i < values.size(); ++i) (in_a[i] ? a : b).push_back(values[i]);
    return cliffs_delta(a, b);
}

}  // namespace

double cliffs_delta(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.empty() || b.empty()) return 0;
    double sum = 0;
    for (const double x : a)
        for (const double y : b) sum += x > y ? 1 : x < y ? -1 : 0;
    return sum / static_cast<double>(a.size() * b.size());
}

double permutation_p(const std::vector<double>& a, const std::vector<double>& b, uint64_t seed) {
    if (a.empty() || b.empty()) return 1;
    std::vector<double> values = a;
    values.insert(values.end(), b.begin(), b.end());
    const double seen = std::abs(cliffs_delta(a, b)) - kSame;
    std::vector<bool> in_a(values.size(), false);
    std::fill(in_a.begin(), in_a.begin() + static_cast<std::ptrdiff_t>(a.size()), true);
    int as_far = 0;
    if (const int all = ways(values.size(), a.size()); all <= kMostWays) {
        // From the last order to the first: each way once.
        do as_far += std::abs(delta_of(values, in_a)) >= seen ? 1 : 0;
        while (std::prev_permutation(in_a.begin(), in_a.end()));
        return static_cast<double>(as_far) / all;
    }
    std::mt19937_64 random(seed);
    for (int i = 0; i < kMostWays; ++i) {
        for (size_t k = in_a.size(); k > 1; --k) {
            const size_t other = random() % k;
            const bool kept = in_a[k - 1];
            in_a[k - 1] = in_a[other];
            in_a[other] = kept;
        }
        as_far += std::abs(delta_of(values, in_a)) >= seen ? 1 : 0;
    }
    // The true way counts as one of them, so that nothing is ever impossible.
    return (as_far + 1.0) / (kMostWays + 1.0);
}

double least_p(size_t a, size_t b) {
    if (a == 0 || b == 0) return 1;
    const int all = ways(a + b, a);
    if (all > kMostWays) return 1 / (kMostWays + 1.0);
    return 2.0 / all;  // all above, and all below
}

std::vector<double> holm(const std::vector<double>& all) {
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t one, size_t other) { return all[one] < all[other]; });
    std::vector<double> corrected(all.size());
    double before = 0;
    for (size_t i = 0; i < order.size(); ++i) {
        const auto left = static_cast<double>(all.size() - i);
        before = std::min(1.0, std::max(before, left * all[order[i]]));
        corrected[order[i]] = before;
    }
    return corrected;
}

}  // namespace godwit
