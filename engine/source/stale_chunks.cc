#include "engine/source/stale_chunks.h"

#include "engine/base/units.h"

namespace godwit {

uint64_t run_count(const ChunkMask& mask) {
    uint64_t runs = 0;
    for_each_run(mask, [&](PageRange) { ++runs; });
    return runs;
}

bool is_sooner_sent_again(const ChunkMask& stale, double page_rate) {
    if (page_rate <= 0) return false;
    const auto good_bytes = static_cast<double>((kPagesPerChunk - count_pages(stale)) * kPageBytes);
    return good_bytes / page_rate <= static_cast<double>(run_count(stale)) * kPunchSeconds;
}

}  // namespace godwit
