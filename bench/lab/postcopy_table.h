// What postcopy_bench prints: pauses and stalls, and how they compare.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/lab/table.h"

namespace godwit {

std::span<const Column> postcopy_columns();

// Medians of each engine over those of "floor", "qemu-postcopy" and "qemu-preempt", where these
// ran.
std::string render_ratios(const std::vector<Results>& all);

}  // namespace godwit
