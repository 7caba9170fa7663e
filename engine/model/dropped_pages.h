// How many pages a destination drops where the guest resumes before its last pages have come: those
// that are stale there, and of huge pages more. A hole takes a huge page apart, so a chunk with
// more than a few runs of stale pages is dropped whole (engine/source/handover_postcopy.cc), and
// what was good of it follows as well.
//
// Of n pages of a chunk a share p is stale, in a row: after a good page comes a stale one with
// probability a = p/c, after a stale one a good one with b = (1 - p)/c. c is the clump: 1 where
// each page is stale for itself; a run has c/(1 - p) pages. With at most m runs a chunk is dropped
// by runs:
//   E[dropped pages of a chunk] = n·P(runs > m) + E[stale pages; runs <= m]
// both by page after page: what w rows have j runs so far, and how many stale pages these have.
// Exact for pages that are written at random, each as likely as the other. Pure.
#pragma once

#include <span>

#include "engine/base/ram_block.h"
#include "engine/model/dirty_curve.h"

namespace godwit {

// Of huge pages on tmpfs; of hugetlbfs none: what is stale of a page makes all of it stale.
inline constexpr uint64_t kMostRunsOfChunk = 16;

// How a guest's writes lie in its memory.
struct WriteSpread {
    double span_pages = 0;   // of the chunks that it writes to; 0: not known, all that was touched
    double clump_pages = 1;  // c, at least 1
};

// The span of the sample with the most chunks, and the median clump of those that wrote at most
// half of that: in fuller ones random pages have long runs too. What samples don't tell is as
// above. A sample's clump is (1 - p) times its mean run.
WriteSpread spread_of(std::span<const DirtySample> samples);

// Of `stale_pages` among `touched_pages`; between these two. Of small pages as many as are stale:
// over links of some 3 Gb/s or less they are dropped run by run.
double dropped_pages(double stale_pages, double touched_pages, const WriteSpread& spread,
                     Backing backing);

}  // namespace godwit
