#include "engine/model/writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "engine/base/hash.h"

namespace godwit {
namespace {

constexpr size_t kMostPhases = 1000;
constexpr int kZipfClasses = 24;

double distinct_of(const WriteLoad& load, double writes) {
    const double set = load.set_pages;
    if (set <= 0 || writes <= 0) return 0;
    switch (load.pattern) {
        case WritePattern::kSequential:
            return std::min(writes, set);
        case WritePattern::kUniform:
            return -set * std::expm1(-writes / set);
        case WritePattern::kZipf:
            break;
    }
    // Classes of ranks [b^i, b^(i+1)): each gets 1/kZipfClasses of the writes, for the harmonic sum
    // over such a class is the same for all.
    double pages = 0;
    double before = 0;
    for (int i = 1; i <= kZipfClasses; ++i) {
        const double upto = std::pow(set + 1, static_cast<double>(i) / kZipfClasses) - 1;
        const double size = upto - before;
        before = upto;
        if (size > 0) pages += -size * std::expm1(-writes / kZipfClasses / size);
    }
    return pages;
}

// A number in [0, 1) for a window, the same every time.
double dice(uint64_t seed, double from_s, double to_s, uint64_t which) {
    const std::array<uint64_t, 4> key{seed, static_cast<uint64_t>(from_s * 1e9),
                                      static_cast<uint64_t>(to_s * 1e9), which};
    return static_cast<double>(checksum_bytes(std::as_bytes(std::span(key))) >> 11) * 0x1.0p-53;
}

class SyntheticWriter : public Writer {
  public:
    SyntheticWriter(std::vector<WritePhase> phases, double noise, uint64_t seed)
        : phases_(std::move(phases)), noise_(noise), seed_(seed) {
        for (const WritePhase& phase : phases_) {
            cycle_s_ += phase.length_s;
            places_ = std::max(places_, phase.loads.size());
        }
    }

    double distinct_pages(double from_s, double to_s) const override {
        if (to_s <= from_s) return 0;
        double pages = 0;
        for (size_t place = 0; place < places_; ++place) pages += of_place(place, from_s, to_s);
        if (noise_ <= 0) return pages;
        // Twelve uniform numbers make a normal one that never exceeds six deviations.
        double normal = -6;
        for (uint64_t i = 0; i < 12; ++i) normal += dice(seed_, from_s, to_s, i);
        return pages * std::max(0.0, 1 + noise_ * normal);
    }

  private:
    // The largest set of the loads in this place, with all their writes.
    [[nodiscard]] double of_place(size_t place, double from_s, double to_s) const {
        WriteLoad all;
        double writes = 0;
        double start_s = 0;
        for (const WritePhase& phase : phases_) {
            const double end_s = start_s + phase.length_s;
            if (place < phase.loads.size()) {
                const WriteLoad& load = phase.loads[place];
                const double active =
                    active_by(to_s, start_s, end_s) - active_by(from_s, start_s, end_s);
                if (active > 0) {
                    writes += active * load.writes_per_s;
                    if (load.set_pages >= all.set_pages) all = load;
                }
            }
            start_s = end_s;
        }
        return distinct_of(all, writes);
    }
    // Seconds until t that fell into a phase, all cycles together.
    [[nodiscard]] double active_by(double t, double start_s, double end_s) const {
        const double cycles = std::floor(t / cycle_s_);
        const double within = t - cycles * cycle_s_;
        return cycles * (end_s - start_s) + std::clamp(within - start_s, 0.0, end_s - start_s);
    }

    std::vector<WritePhase> phases_;
    double noise_;
    uint64_t seed_;
    double cycle_s_ = 0;
    size_t places_ = 0;
};

class TraceReplay : public Writer {
  public:
    explicit TraceReplay(std::shared_ptr<const DirtyTrace> trace) : trace_(std::move(trace)) {}

    double distinct_pages(double from_s, double to_s) const override {
        const auto& records = trace_->records;
        const double length_s = static_cast<double>(records.back().time_ns) / 1e9;
        if (to_s <= from_s) return 0;
        // From the trace's length on, every record was replayed: nothing is new.
        const double span_s = std::min(to_s - from_s, length_s);
        double at_s = std::fmod(from_s, length_s);
        double left_s = span_s;
        std::vector<bool> written(trace_->header.page_count());
        double pages = 0;
        const size_t first = record_at(at_s);
        double first_fresh = -1;
        for (size_t i = first; left_s > 1e-12; i = (i + 1) % records.size()) {
            const double begin_s = i == 0 ? 0 : static_cast<double>(records[i - 1].time_ns) / 1e9;
            const double end_s = static_cast<double>(records[i].time_ns) / 1e9;
            const double part_s = std::min(end_s - at_s, left_s);
            // Once round, the rest of the record that it began in.
            const double fresh =
                i == first && first_fresh >= 0 ? first_fresh : mark(records[i], written);
            if (first_fresh < 0) first_fresh = fresh;
            pages += fresh * std::clamp(part_s / (end_s - begin_s), 0.0, 1.0);
            left_s -= part_s;
            at_s = i + 1 == records.size() ? 0 : end_s;
        }
        return pages;
    }

  private:
    [[nodiscard]] size_t record_at(double at_s) const {
        const auto found = std::upper_bound(trace_->records.begin(), trace_->records.end(), at_s,
                                            [](double t, const DirtyRecord& r) {
                                                return t < static_cast<double>(r.time_ns) / 1e9;
                                            });
        return std::min<size_t>(found - trace_->records.begin(), trace_->records.size() - 1);
    }
    static double mark(const DirtyRecord& record, std::vector<bool>& written) {
        double fresh = 0;
        for (const PageRun& run : record.runs)
            for (uint64_t page = run.first; page < run.first + run.count; ++page) {
                fresh += written[page] ? 0 : 1;
                written[page] = true;
            }
        return fresh;
    }

    std::shared_ptr<const DirtyTrace> trace_;
};

class CurveWriter : public Writer {
  public:
    explicit CurveWriter(DirtyCurve curve) : curve_(std::move(curve)) {}
    double distinct_pages(double from_s, double to_s) const override {
        return curve_.pages(to_s - from_s);
    }

  private:
    DirtyCurve curve_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Writer>> synthetic_writer(std::vector<WritePhase> phases,
                                                         double noise, uint64_t seed) {
    GODWIT_RETURN_IF_ERROR(check_range("number of phases", static_cast<double>(phases.size()), 1,
                                       static_cast<double>(kMostPhases)));
    GODWIT_RETURN_IF_ERROR(check_range("noise", noise, 0, 1));
    for (const WritePhase& phase : phases) {
        GODWIT_RETURN_IF_ERROR(
            check_range("length of a phase in seconds", phase.length_s, 1e-3, kLongestTime_s));
        for (const WriteLoad& load : phase.loads) {
            GODWIT_RETURN_IF_ERROR(
                check_range("number of pages in a set", load.set_pages, 0, kMostPages));
            GODWIT_RETURN_IF_ERROR(
                check_range("writes per second", load.writes_per_s, 0, kMostDirtyRate));
        }
    }
    return std::make_unique<SyntheticWriter>(std::move(phases), noise, seed);
}

std::unique_ptr<Writer> trace_writer(std::shared_ptr<const DirtyTrace> trace) {
    return std::make_unique<TraceReplay>(std::move(trace));
}

std::unique_ptr<Writer> curve_writer(DirtyCurve curve) {
    return std::make_unique<CurveWriter>(std::move(curve));
}

std::vector<DirtySample> sample_writer(const Writer& writer, const std::vector<double>& windows_s,
                                       int count) {
    std::vector<DirtySample> samples;
    for (const double window_s : windows_s)
        for (int i = 0; i < count; ++i)
            samples.push_back({window_s, writer.distinct_pages(i * window_s, (i + 1) * window_s)});
    return samples;
}

}  // namespace godwit
