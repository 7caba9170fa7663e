// Guests for the simulator: how many distinct pages are written between two times. Deterministic.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/model/dirty_curve.h"
#include "engine/model/dirty_trace.h"

namespace godwit {

// Times are the guest's own: it stands still while it is held back. Immutable, thread-safe.
class Writer {
  public:
    virtual ~Writer() = default;
    // Distinct pages written within [from_s, to_s); at least 0, monotone in to_s.
    [[nodiscard]] virtual double distinct_pages(double from_s, double to_s) const = 0;
};

enum class WritePattern { kSequential, kUniform, kZipf };

// One pattern over a set of pages. With N writes and W pages in the set, distinct pages are
//   sequential: min(N, W);   uniform: W·(1 − e^(−N/W));
//   zipf: Σ over classes of pages of nearly the same popularity, each as uniform (exponent 1).
struct WriteLoad {
    WritePattern pattern = WritePattern::kUniform;
    double set_pages = 0;
    double writes_per_s = 0;
};

// A phase: the loads at once, for a time. A hot set is two loads, a small fast one and a large slow
// one. Phases repeat for ever; a set is the same set in every phase that gives it the same place.
struct WritePhase {
    double length_s = 1;
    std::vector<WriteLoad> loads;
};

// `noise`: relative standard deviation of each answer, by `seed` and window. Errors:
// InvalidArgument (no phase, more than 1,000, absurd numbers).
absl::StatusOr<std::unique_ptr<Writer>> synthetic_writer(std::vector<WritePhase> phases,
                                                         double noise, uint64_t seed);

// Replays a trace, again and again; windows that cut a record take its new pages in proportion.
std::unique_ptr<Writer> trace_writer(std::shared_ptr<const DirtyTrace> trace);

// A curve as a guest: the same at any time.
std::unique_ptr<Writer> curve_writer(DirtyCurve curve);

// What a sampler would see of the writer: `count` windows of each length, one after the other.
std::vector<DirtySample> sample_writer(const Writer& writer, const std::vector<double>& windows_s,
                                       int count);

}  // namespace godwit
