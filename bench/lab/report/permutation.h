// Whether two handfuls of measurements differ, and by how much.
#pragma once

#include <cstddef>
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

// The smallest p that so many values on either side can have, however far they are apart.
double least_p(size_t a, size_t b);

// Holm's correction: of many tests some look sure by chance alone, so the smallest p is multiplied
// by how many there are, the next by one less, and so on; none falls below the one before it. In
// the order of `all`.
std::vector<double> holm(const std::vector<double>& all);

}  // namespace godwit
