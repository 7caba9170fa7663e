#include "bench/guest/kernel/memory_map.h"

#include "bench/guest/kernel/cpu.h"

extern "C" uint64_t boot_pml4[512];  // boot.S
extern "C" void* memset(void* to, int value, __SIZE_TYPE__ size);

namespace godwit::guest {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kPresentWritable = 7;  // and for ring 3: user_mode.h
constexpr uint64_t kLargePage = 0x80;
constexpr uint64_t kAddressMask = 0x000ffffffffff000;

// Multiboot 0.6.96, "Boot information format".
struct [[gnu::packed]] MultibootInfo {
    uint32_t flags;
    uint32_t unused[10];
    uint32_t mmap_length;
    uint32_t mmap_address;
};
struct [[gnu::packed]] MultibootMapEntry {
    uint32_t size;  // of what follows
    uint64_t address;
    uint64_t length;
    uint32_t type;  // 1: RAM
};
constexpr uint32_t kHasMemoryMap = 1u << 6;

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }

}  // namespace

bool MemoryMap::load(uint64_t multiboot_info) {
    const auto* info = reinterpret_cast<const MultibootInfo*>(multiboot_info);
    if ((info->flags & kHasMemoryMap) == 0) return false;
    const uint64_t end = uint64_t{info->mmap_address} + info->mmap_length;
    for (uint64_t at = info->mmap_address; at < end && range_count_ < kMaxRanges;) {
        const auto* entry = reinterpret_cast<const MultibootMapEntry*>(at);
        ranges_[range_count_++] = {entry->address, entry->address + entry->length,
                                   entry->type == 1};
        at += entry->size + sizeof entry->size;
    }
    find_ends();
    if (arena_limit_ == 0) return false;
    return ram_end_ <= kFourGiB || map(kFourGiB, ram_end_);
}

void MemoryMap::find_ends() {
    for (unsigned i = 0; i < range_count_; ++i) {
        const Range& range = ranges_[i];
        if (!range.usable) continue;
        if (range.end > ram_end_) ram_end_ = range.end;
        if (range.begin <= kMailboxAddress && range.end > arena_next_)
            arena_limit_ = round_down(range.end, kGuestPageBytes);
        if (range.end <= kFourGiB && range.end > low_ram_end_) low_ram_end_ = range.end;
    }
    // The firmware's tables follow usable RAM directly, in memory of the same backend.
    for (unsigned i = 0; i < range_count_; ++i)
        if (!ranges_[i].usable && ranges_[i].begin == low_ram_end_) low_ram_end_ = ranges_[i].end;
}

bool MemoryMap::map(uint64_t begin, uint64_t end) {
    for (uint64_t at = round_down(begin, kGiB); at < end; at += kGiB) {
        if (at / (512 * kGiB) >= 512) return false;
        uint64_t& pml4_entry = boot_pml4[at / (512 * kGiB)];
        if (pml4_entry == 0) {
            const uint64_t table = allocate(4096);
            if (table == 0) return false;
            pml4_entry = table | kPresentWritable;
        }
        uint64_t& pdpt_entry = words_at(pml4_entry & kAddressMask)[at / kGiB % 512];
        if (pdpt_entry != 0) continue;
        const uint64_t table = allocate(4096);
        if (table == 0) return false;
        for (uint64_t i = 0; i < 512; ++i)
            words_at(table)[i] = (at + i * (2u << 20)) | kPresentWritable | kLargePage;
        pdpt_entry = table | kPresentWritable;
    }
    return true;
}

uint64_t MemoryMap::allocate(uint64_t bytes) {
    bytes = round_up(bytes, kGuestPageBytes);
    if (bytes > arena_limit_ - arena_next_) return 0;
    const uint64_t address = arena_next_;
    arena_next_ += bytes;
    memset(reinterpret_cast<void*>(address), 0, bytes);
    return address;
}

unsigned MemoryMap::usable_ranges(Range* out) const {
    unsigned count = 0;
    for (unsigned i = 0; i < range_count_; ++i) {
        Range range = ranges_[i];
        if (range.begin < arena_next_) range.begin = arena_next_;
        range.begin = round_up(range.begin, kGuestPageBytes);
        range.end = round_down(range.end, kGuestPageBytes);
        if (!range.usable || range.begin >= range.end) continue;
        unsigned slot = count++;
        for (; slot > 0 && out[slot - 1].begin > range.begin; --slot) out[slot] = out[slot - 1];
        out[slot] = range;
    }
    return count;
}

bool MemoryMap::place_working_set(uint64_t page_count, bool high, Mailbox& mailbox) {
    Range ranges[kMaxRanges];
    const unsigned count = usable_ranges(ranges);
    mailbox.region_count = 0;
    for (unsigned i = 0; i < count && page_count > 0; ++i) {
        if (mailbox.region_count == kMaxRegions) return false;
        const Range& range = ranges[high ? count - 1 - i : i];
        uint64_t pages = (range.end - range.begin) / kGuestPageBytes;
        if (pages > page_count) pages = page_count;
        const uint64_t address = high ? range.end - pages * kGuestPageBytes : range.begin;
        mailbox.regions[mailbox.region_count++] = {address, pages};
        page_count -= pages;
    }
    return page_count == 0;
}

}  // namespace godwit::guest
