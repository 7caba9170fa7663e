#include "engine/model/dropped_pages.h"

#include <algorithm>
#include <array>
#include <vector>

namespace godwit {
namespace {

constexpr auto kChunk = static_cast<double>(kPagesPerChunk);
// A sample that wrote more of its span than this says little of how its pages came together.
constexpr double kTellingShare = 0.5;

// Rows with so many runs so far.
struct Rows {
    double share = 0;
    double stale_pages = 0;  // expected, of these
    void add(const Rows& other, double part, double more_pages) {
        share += other.share * part;
        stale_pages += (other.stale_pages + other.share * more_pages) * part;
    }
};
using ByLastPage = std::array<Rows, 2>;  // good, stale
// By runs; those with more are dropped whole.
using ByRuns = std::array<ByLastPage, kMostRunsOfChunk + 1>;

double dropped_of_chunk(double stale_share, double clump, uint64_t most_runs) {
    const double becomes_stale = stale_share / clump;
    const double becomes_good = (1 - stale_share) / clump;
    ByRuns rows{};
    rows[0][0].share = 1 - stale_share;
    if (most_runs > 0) rows[1][1] = {.share = stale_share, .stale_pages = stale_share};
    for (uint64_t page = 1; page < kPagesPerChunk; ++page) {
        ByRuns next{};
        for (size_t runs = 0; runs <= most_runs; ++runs) {
            const auto& [good, stale] = rows[runs];
            next[runs][0].add(good, 1 - becomes_stale, 0);
            next[runs][0].add(stale, becomes_good, 0);
            next[runs][1].add(stale, 1 - becomes_good, 1);
            if (runs < most_runs) next[runs + 1][1].add(good, becomes_stale, 1);
        }
        rows = next;
    }
    Rows by_runs;
    for (const ByLastPage& row : rows)
        for (const Rows& one : row) by_runs.add(one, 1, 0);
    return kChunk * std::max(1 - by_runs.share, 0.0) + by_runs.stale_pages;
}

}  // namespace

WriteSpread spread_of(std::span<const DirtySample> samples) {
    WriteSpread spread;
    for (const DirtySample& sample : samples)
        spread.span_pages = std::max(spread.span_pages, sample.chunks * kChunk);
    std::vector<double> clumps;
    for (const DirtySample& sample : samples) {
        if (sample.runs <= 0 || sample.pages <= 0) continue;
        const double share = sample.pages / spread.span_pages;
        if (share <= kTellingShare)
            clumps.push_back(std::max(sample.pages / sample.runs * (1 - share), 1.0));
    }
    if (clumps.empty()) return spread;
    const auto middle = clumps.begin() + static_cast<std::ptrdiff_t>(clumps.size() / 2);
    std::nth_element(clumps.begin(), middle, clumps.end());
    spread.clump_pages = *middle;
    return spread;
}

double dropped_pages(double stale_pages, double touched_pages, const WriteSpread& spread,
                     Backing backing) {
    if (backing == Backing::kTmpfs4k || stale_pages <= 0) return stale_pages;
    // What is written together fills huge pages by itself, above all where the tracker sees these
    // only.
    if (backing == Backing::kHugetlb2M && spread.clump_pages >= kChunk / 2) return stale_pages;
    const double span =
        spread.span_pages > 0 ? std::min(spread.span_pages, touched_pages) : touched_pages;
    const double among = std::max(span, stale_pages);
    const uint64_t most_runs = backing == Backing::kHugetlb2M ? 0 : kMostRunsOfChunk;
    const double dropped =
        among / kChunk *
        dropped_of_chunk(stale_pages / among, std::max(spread.clump_pages, 1.0), most_runs);
    return std::clamp(dropped, stale_pages, among);
}

}  // namespace godwit
