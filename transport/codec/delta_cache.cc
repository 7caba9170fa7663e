#include "transport/codec/delta_cache.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

namespace godwit {
namespace {

// Huge pages where the sum of many small mappings would not get any.
Bytes whole_chunks(Bytes bytes) { return (bytes + kChunkBytes - 1) / kChunkBytes * kChunkBytes; }

uint64_t mix(uint64_t value) {
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93;
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93;
    return value ^ value >> 32;
}

}  // namespace

absl::StatusOr<DeltaCache> DeltaCache::create(Bytes capacity) {
    const Bytes pages = capacity / kPageBytes;
    if (pages == 0 || pages >= uint64_t{1} << 31)
        return absl::InvalidArgumentError(fmt::format(
            "a delta cache of {} bytes: at least a page, and less than 8 TiB", capacity));
    DeltaCache cache;
    cache.capacity_ = static_cast<uint32_t>(pages);
    const uint64_t buckets = std::bit_ceil(2 * pages);
    cache.bucket_mask_ = buckets - 1;
    GODWIT_ASSIGN_OR_RETURN(cache.contents_, Mapping::anonymous(whole_chunks(pages * kPageBytes)));
    GODWIT_ASSIGN_OR_RETURN(cache.entries_, Mapping::anonymous((pages + 1) * sizeof(Entry)));
    GODWIT_ASSIGN_OR_RETURN(cache.buckets_, Mapping::anonymous(buckets * sizeof(uint32_t)));
    return cache;
}

bool DeltaCache::exchange(BlockIndex block, PageIndex page, const Hashes& hashes, PageBytes bytes) {
    const uint32_t slot = bucket(locate(block, page));
    if (slot == 0 || entry(slot).hash != hashes.sent) {
        if (slot != 0) ++counts_.stale;
        remember(block, page, hashes, bytes);
        return false;
    }
    entry(slot).hash = hashes.now;
    unlink(slot);
    link(slot, true);
    const PageBytes kept = content(slot);
    if (exchange_for_xor(bytes, kept) > kMostChangedLines) {
        ++counts_.rewritten;
        std::memcpy(bytes.data(), kept.data(), kPageBytes);
        return false;
    }
    ++counts_.deltas;
    return true;
}

const std::byte* DeltaCache::find(BlockIndex block, PageIndex page, Hash128 sent) const {
    const uint32_t slot = bucket(locate(block, page));
    return slot != 0 && entry(slot).hash == sent ? content(slot).data() : nullptr;
}

void DeltaCache::remember(BlockIndex block, PageIndex page, const Hashes& hashes,
                          ConstPageBytes bytes) {
    const bool resent = hashes.sent != Hash128{};
    uint32_t slot = bucket(locate(block, page));
    if (slot == 0) {
        slot = take_slot(resent);
        if (slot == 0) return;
        // Only now: what was evicted may have moved the bucket.
        bucket(locate(block, page)) = slot;
        ++used_;
    } else {
        unlink(slot);
    }
    Entry& taken = entry(slot);
    taken.block = block;
    taken.page = page;
    taken.hash = hashes.now;
    link(slot, resent);
    std::memcpy(content(slot).data(), bytes.data(), kPageBytes);
}

void DeltaCache::forget(BlockIndex block, PageRange pages) {
    if (pages.count() > used_) {
        for (uint32_t slot = entry(0).next; slot != 0;) {
            const Entry& held = entry(slot);
            const uint32_t next = held.next;
            if (held.block == block && held.page >= pages.begin && held.page < pages.end)
                drop(slot);
            slot = next;
        }
        return;
    }
    for (PageIndex page = pages.begin; page < pages.end; ++page)
        if (const uint32_t slot = bucket(locate(block, page)); slot != 0) drop(slot);
}

// --- slots ----------------------------------------------------------------------------------

uint32_t DeltaCache::take_slot(bool resent) {
    if (free_ == 0 && made_ < capacity_) return ++made_;
    if (free_ == 0) {
        if (!resent) return 0;
        const uint32_t oldest = entry(0).next;
        const uint32_t round = entry(oldest).resent_in_round;
        if (round != 0 && round + 1 >= round_) {
            ++counts_.refused;
            return 0;
        }
        drop(oldest);
        ++counts_.evicted;
    }
    const uint32_t slot = free_;
    free_ = entry(slot).next;
    return slot;
}

void DeltaCache::drop(uint32_t slot) {
    Entry& dropped = entry(slot);
    empty(locate(dropped.block, dropped.page));
    unlink(slot);
    dropped.next = free_;
    free_ = slot;
    --used_;
}

void DeltaCache::unlink(uint32_t slot) {
    const Entry& linked = entry(slot);
    entry(linked.previous).next = linked.next;
    entry(linked.next).previous = linked.previous;
}

// Behind all others when it was resent, else before them.
void DeltaCache::link(uint32_t slot, bool resent) {
    Entry& linked = entry(slot);
    linked.resent_in_round = resent ? round_ : 0;
    linked.next = resent ? 0 : entry(0).next;
    linked.previous = resent ? entry(0).previous : 0;
    entry(linked.previous).next = slot;
    entry(linked.next).previous = slot;
}

DeltaCache::Entry& DeltaCache::entry(uint32_t slot) const {
    return reinterpret_cast<Entry*>(entries_.data())[slot];
}

PageBytes DeltaCache::content(uint32_t slot) const {
    return PageBytes(contents_.data() + (slot - size_t{1}) * kPageBytes, kPageBytes);
}

// --- buckets --------------------------------------------------------------------------------

uint32_t& DeltaCache::bucket(uint64_t index) const {
    return reinterpret_cast<uint32_t*>(buckets_.data())[index];
}

uint64_t DeltaCache::home(BlockIndex block, PageIndex page) const {
    // The address is a seed: a guest must not know which of its pages collide.
    const auto seed = reinterpret_cast<uintptr_t>(contents_.data());
    return mix(mix(page ^ seed) + block) & bucket_mask_;
}

uint64_t DeltaCache::locate(BlockIndex block, PageIndex page) const {
    for (uint64_t index = home(block, page);; index = (index + 1) & bucket_mask_) {
        const uint32_t slot = bucket(index);
        if (slot == 0 || (entry(slot).page == page && entry(slot).block == block)) return index;
    }
}

// What follows without a gap and may not lie behind one moves up.
void DeltaCache::empty(uint64_t index) {
    uint64_t gap = index;
    for (uint64_t at = (gap + 1) & bucket_mask_; bucket(at) != 0; at = (at + 1) & bucket_mask_) {
        const Entry& moved = entry(bucket(at));
        const uint64_t wanted = home(moved.block, moved.page);
        if (((at - wanted) & bucket_mask_) < ((at - gap) & bucket_mask_)) continue;
        bucket(gap) = bucket(at);
        gap = at;
    }
    bucket(gap) = 0;
}

}  // namespace godwit
