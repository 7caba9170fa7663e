#include "dirty-tracking/resident/shared_bitmaps.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/base/units.h"

namespace godwit {
namespace {

// A cache line of its own for each block.
constexpr uint64_t kAlignment = 64;

uint64_t word_count(uint64_t page_count) { return (page_count + 63) / 64; }

// The resident may be setting bits meanwhile: what is taken is taken once. Words that are zero
// are not written, so that a scan of a quiet guest leaves its cache lines shared. Bits past the
// end are not believed: the memory is QEMU's too.
void take_words(uint64_t* from, PageBitmap& bitmap) {
    const uint64_t in_last = bitmap.page_count() % 64;
    const size_t count = word_count(bitmap.page_count());
    for (size_t i = 0; i < count; ++i) {
        if (__atomic_load_n(&from[i], __ATOMIC_RELAXED) == 0) continue;
        uint64_t bits = __atomic_exchange_n(&from[i], 0, __ATOMIC_SEQ_CST);
        if (i + 1 == count && in_last != 0) bits &= (uint64_t{1} << in_last) - 1;
        bitmap.add_word(i, bits);
    }
}

}  // namespace

absl::StatusOr<SharedBitmaps> SharedBitmaps::create(std::span<const uint64_t> page_counts) {
    SharedBitmaps bitmaps;
    uint64_t size = 0;
    for (const uint64_t page_count : page_counts) {
        bitmaps.parts_.push_back({size, page_count});
        size += word_count(page_count) * sizeof(uint64_t);
        size = (size + kAlignment - 1) / kAlignment * kAlignment;
    }
    size = std::max<uint64_t>((size + kPageBytes - 1) / kPageBytes * kPageBytes, kPageBytes);
    bitmaps.memory_ = UniqueFd(::memfd_create("godwit-dirty", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!bitmaps.memory_.valid()) return errno_status(errno, "memfd_create");
    if (::ftruncate(bitmaps.memory_.get(), static_cast<off_t>(size)) != 0)
        return errno_status(errno, "ftruncate of a memfd");
    if (::fcntl(bitmaps.memory_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return errno_status(errno, "F_ADD_SEALS");
    GODWIT_ASSIGN_OR_RETURN(bitmaps.mapping_, Mapping::map_shared(bitmaps.memory_.get(), size));
    return bitmaps;
}

absl::Status SharedBitmaps::take(PageSet& dirty) {
    bool fits = dirty.size() == parts_.size();
    for (size_t i = 0; fits && i < parts_.size(); ++i)
        fits = dirty[i].page_count() == parts_[i].page_count;
    if (!fits) return absl::InvalidArgumentError("the page set has another shape than the log");
    for (size_t i = 0; i < parts_.size(); ++i)
        take_words(reinterpret_cast<uint64_t*>(mapping_.data() + parts_[i].offset), dirty[i]);
    return absl::OkStatus();
}

}  // namespace godwit
