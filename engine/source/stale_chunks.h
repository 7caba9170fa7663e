// How pages whose newest content is not at the destination are dropped there: run by run, or with
// all of their chunk, whose good pages are sent once more then. Pure.
#pragma once

#include "transport/frame/pages_body.h"

namespace godwit {

// Seen at the destination: 4-15 us for a punch (and a look whether the page is gone).
inline constexpr double kPunchSeconds = 10e-6;

uint64_t run_count(const ChunkMask& mask);

// While the guest still runs, of small pages: whether sending the good pages of the chunk once
// more, at `page_rate` page bytes per second, takes no longer than dropping its stale runs one by
// one. False where no rate is known. Over 400 MB/s or less every run is dropped by itself: behind
// each there is a good page, which takes longer than a punch.
bool is_sooner_sent_again(const ChunkMask& stale, double page_rate);

}  // namespace godwit
