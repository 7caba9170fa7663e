#include "dirty-tracking/resident/discards.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "dirty-tracking/resident/dirty_marks.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/proc_maps.h"
#include "dirty-tracking/resident/view.h"

namespace godwit::resident {
namespace {

constexpr uint64_t kChunkPages = 512;

void mark_bytes(const Block& block, uint64_t begin, uint64_t end) {
    const uint64_t first = begin / kPageSize / kChunkPages * kChunkPages;
    const uint64_t last = (end - 1) / kPageSize / kChunkPages * kChunkPages + kChunkPages;
    if (begin < end) mark_pages(block, first, last);
}

void mark_in_file(int fd, off_t offset, off_t length) {
    const KeepErrno keep;
    struct stat status {};
    if (offset < 0 || length <= 0 || ::fstat(fd, &status) != 0) return;
    for (uint32_t i = 0; i < g_state.log.block_count; ++i) {
        const Block& block = g_state.log.blocks[i];
        if (block.device == status.st_dev && block.inode == status.st_ino)
            mark_bytes(block, static_cast<uint64_t>(offset),
                       static_cast<uint64_t>(offset) + static_cast<uint64_t>(length));
    }
}

void mark_in_memory(uint64_t begin, uint64_t end) {
    const Log& log = g_state.log;
    for (uint32_t i = 0; i < log.mapping_count; ++i) {
        const Mapping& mapping = log.mappings[i];
        const uint64_t first = std::max(begin, mapping.begin);
        const uint64_t last = std::min(end, mapping.end);
        if (first < last)
            mark_bytes(log.blocks[mapping.block], first - mapping.begin + mapping.offset,
                       last - mapping.begin + mapping.offset);
    }
}

// Under the lock while files are logged, so that no collect lies between the discard and its mark;
// and marked also if the log began in the middle of the call.
template <typename Call, typename Mark>
int make(Call&& call, Mark&& mark) {
    if (g_state.watching.load()) {
        const Guard guard(g_state.lock);
        const int result = call();
        mark();
        return result;
    }
    const int result = call();
    if (g_state.watching.load()) {
        const Guard guard(g_state.lock);
        mark();
    }
    return result;
}

bool gives_advice_on_backing(int advice) {
    return advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE;
}

// Those that make a mapping of its own of the range: what was mapped by 2 MiB across its ends is
// unmapped, and view B's page tables forget what was written there.
bool splits_mappings(int advice) {
    switch (advice) {
        case MADV_NORMAL:
        case MADV_RANDOM:
        case MADV_SEQUENTIAL:
        case MADV_DONTFORK:
        case MADV_DOFORK:
        case MADV_DONTDUMP:
        case MADV_DODUMP:
        case MADV_MERGEABLE:
        case MADV_UNMERGEABLE:
        case MADV_HUGEPAGE:
        case MADV_NOHUGEPAGE:
            return true;
        default:
            return false;
    }
}

void mark_ends(uint64_t begin, uint64_t end) {
    constexpr uint64_t kHugeBytes = kChunkPages * kPageSize;
    if (begin % kHugeBytes != 0) mark_in_memory(begin, begin + 1);
    if (end % kHugeBytes != 0) mark_in_memory(end, end + 1);
}

}  // namespace

int discarding_fallocate(int fd, int mode, off_t offset, off_t length) {
    const auto call = [=] { return next_fallocate(fd, mode, offset, length); };
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) return call();
    return make(call, [=] { mark_in_file(fd, offset, length); });
}

int discarding_madvise(void* address, size_t length, int advice) {
    const auto call = [=] { return next_madvise(address, length, advice); };
    const auto begin = reinterpret_cast<uint64_t>(address);
    if (advice == MADV_REMOVE || advice == MADV_DONTNEED)
        return make(call, [=] { mark_in_memory(begin, begin + length); });
    const int result =
        splits_mappings(advice) ? make(call, [=] { mark_ends(begin, begin + length); }) : call();
    if (result == 0 && gives_advice_on_backing(advice)) {
        const KeepErrno keep;
        const Guard guard(g_state.lock);
        repeat_advice(begin, length, advice);
    }
    return result;
}

bool find_log_mappings() {
    Log& log = g_state.log;
    log.mapping_count = 0;
    MapsReader reader;
    for (MapsRegion region; reader.next(region);) {
        for (uint32_t i = 0; i < log.block_count; ++i) {
            if (!region.shared || log.blocks[i].device != region.device ||
                log.blocks[i].inode != region.inode)
                continue;
            if (log.mapping_count == kMappingLimit) return false;
            log.mappings[log.mapping_count++] = {region.begin, region.end, region.offset, i};
        }
    }
    return true;
}

}  // namespace godwit::resident
