// The classical model: each round leaves the r-th part of what it sent. It serves as a measure for
// the better one (working_set.h), because it is known to mislead: real guests re-dirty a working
// set.
//
// Vm memory [bytes], R page bytes per second before compression, P page size, D dirty rate
// [pages/s], r = P·D/R; n live rounds, round 0 included; S(r, n) = 1 + r + … + rⁿ = (1 −
// r^(n+1))/(1 − r).
//   non-live:  Tmig = Tdown = Vm/R + Tres
//   pre-copy:  Tmig = (Vm/R)·S(r, n) + Tres,  Tdown = rⁿ·(Vm/R) + Tres, the term rⁿ being the
//              stop-and-copy;  Vth = R·(downtime limit − Tres),
//              n = min(⌈ln(Vth/Vm)/ln r⌉, max rounds), and at least 1: round 0 is always live
//   m serial:  Tmig = m·(Vm/R)·S(r, n) + Tres,
//              Tdown = (Vm/R)·rⁿ + (m − 1)·(Vm/R)·S(r, n) + Tres: the group's outage, from the
//              first stop to the last resume
//   m parallel, each with R/m, one synchronised stop: with ρ = m·r
//              Tmig = (m·Vm/R)·S(ρ, n) + Tres,  Tdown = ρⁿ·m·Vm/R + Tres; converges for r < 1/m
//   k at a time: ⌈m/k⌉ parallel groups one after the other; converges for k < 1/r
// Limits: r → 1: S = n + 1. For r >= 1 no set can exceed the memory, so it stays Vm as with r = 1,
// and the model says that it does not converge. Sources: Clark et al., NSDI'05 (pre-copy); Akoush
// et al., MASCOTS'10 (bounds); the serial and parallel formulas: Sun et al., "A new technique for
// efficient live migration of multiple virtual machines", FGCS 2016.
#pragma once

#include "engine/model/forecast.h"

namespace godwit {

struct GeometricInput {
    double memory_bytes = 0;       // Vm
    double page_rate = 0;          // R
    double dirty_pages_per_s = 0;  // D
    double downtime_limit_s = 0.05;
    double fixed_cost_s = 0;  // Tres: drain, device state, load, resume
    uint32_t max_rounds = 30;
};

struct GeometricForecast {
    double r = 0;  // of parallel runs: ρ of the largest group
    bool converges = false;
    uint32_t rounds = 0;  // n; 0: non-live. Of groups: the largest's
    double total_s = 0;
    double downtime_s = 0;
    double page_bytes = 0;
};

// Errors of all: InvalidArgument where a number is absurd (check_range) or max_rounds or m is 0 or
// beyond kMostRoundsModelled.
absl::StatusOr<GeometricForecast> geometric_non_live(const GeometricInput& input);
absl::StatusOr<GeometricForecast> geometric_precopy(const GeometricInput& input);
absl::StatusOr<GeometricForecast> geometric_serial(const GeometricInput& input, uint32_t m);
// Downtime of k at a time: the longest of any group.
absl::StatusOr<GeometricForecast> geometric_parallel(const GeometricInput& input, uint32_t m);
absl::StatusOr<GeometricForecast> geometric_k_at_a_time(const GeometricInput& input, uint32_t m,
                                                        uint32_t k);

// The largest k that converges, k < 1/r, and at most m; 0: not even one VM alone does.
absl::StatusOr<uint32_t> geometric_most_at_a_time(const GeometricInput& input, uint32_t m);

}  // namespace godwit
