// Whether two handfuls of measurements differ, and by how much.
#pragma once

#include <cstdint>
#include <vector>

namespace godwit {

// Cliff's delta: how much more often a value of `a` is above one of `b` than below, over all pairs:
// -1 (all of a are below all of b) to 1; 0 when either is empty. A matter of ranks: one wild run
// weighs no more than any other.
double cliffs_delta(const std::vector<double>& a, const std::vector<double>& b);

// The share of ways to deal the values to both sides that show a delta at least as far from 0 as
// the true one: two-sided, exact where there are at most 20,000 ways, else 20,000 drawn by `seed`.
// 1 when either is empty.
double permutation_p(const std::vector<double>& a, const std::vector<double>& b, uint64_t seed = 1);

}  // namespace godwit
