#include "engine/base/ram_reader.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "engine/base/bus_error_guard.h"
#include "engine/base/check.h"
#include "engine/base/copy_page.h"

namespace godwit {
namespace {

// cachestat(2), kernel 6.5; the headers of Debian 12 do not have it.
constexpr long kCachestatCall = 451;
struct CachestatRange {
    uint64_t offset;
    uint64_t length;
};
struct Cachestat {
    uint64_t cached;
    uint64_t dirty;
    uint64_t writeback;
    uint64_t evicted;
    uint64_t recently_evicted;
};

}  // namespace

absl::StatusOr<RamReader> RamReader::create(std::span<const RamBlock> blocks) {
    RamReader reader(blocks);
    for (const RamBlock& block : blocks) {
        reader.mappings_.emplace_back();
        if (block.backing == Backing::kHugetlb2M) continue;
        GODWIT_ASSIGN_OR_RETURN(reader.mappings_.back(),
                                Mapping::read_shared(block.file.get(), block.size));
    }
    return reader;
}

absl::StatusOr<size_t> RamReader::read(BlockIndex block, PageRange run, std::span<std::byte> to,
                                       Keep keep) {
    GODWIT_CHECK(to.size() >= run.count() * kPageBytes);
    if (*failed_)
        return absl::DataLossError("guest memory can't be read: a page of it has failed before");
    return all_there(block, run) ? read_mapped(block, run, to.data(), keep)
                                 : read_copied(block, run, to.data(), keep);
}

// Between this and the read the guest may still give pages back: then they are filled with zeros,
// which costs memory of a host that the guest is leaving, and nothing else.
bool RamReader::all_there(BlockIndex block, PageRange run) const {
    if (mappings_[block].data() == nullptr) return false;
    const CachestatRange range{.offset = run.begin * kPageBytes,
                               .length = run.count() * kPageBytes};
    Cachestat seen{};
    return ::syscall(kCachestatCall, blocks_[block].file.get(), &range, &seen, 0) == 0 &&
           seen.cached == run.count();
}

absl::StatusOr<size_t> RamReader::read_mapped(BlockIndex block, PageRange run, std::byte* to,
                                              Keep keep) {
    const std::span<const std::byte> pages =
        mappings_[block].bytes().subspan(run.begin * kPageBytes, run.count() * kPageBytes);
    const BusErrorGuard guard(pages);
    std::byte* end = to;
    for (PageIndex page = run.begin; page < run.end; ++page) {
        const Hash128 hash = copy_page(end, pages.data() + (page - run.begin) * kPageBytes);
        if (keep(page, hash) && hash != Hash128{}) end += kPageBytes;
    }
    if (guard.hit()) {
        *failed_ = true;
        return absl::DataLossError(fmt::format(
            "the host's memory behind pages {} to {} of RAM block {} has failed (SIGBUS)",
            run.begin, run.end, blocks_[block].name));
    }
    return static_cast<size_t>(end - to);
}

absl::StatusOr<size_t> RamReader::read_copied(BlockIndex block, PageRange run, std::byte* to,
                                              Keep keep) {
    GODWIT_RETURN_IF_ERROR(read_fully(blocks_[block].file.get(), to, run.count() * kPageBytes,
                                      run.begin * kPageBytes));
    std::byte* end = to;
    std::byte* from = to;
    for (PageIndex page = run.begin; page < run.end; ++page, from += kPageBytes) {
        const std::span<const std::byte> bytes(from, kPageBytes);
        const Hash128 hash = is_zero(bytes) ? Hash128{} : hash_bytes(bytes);
        if (!keep(page, hash) || hash == Hash128{}) continue;
        if (end != from) std::memmove(end, from, kPageBytes);
        end += kPageBytes;
    }
    return static_cast<size_t>(end - to);
}

}  // namespace godwit
