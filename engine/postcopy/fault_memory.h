// FaultMemory: the guest RAM of a QEMU whose missing pages a userfaultfd of ours fills.
//
// Documentation/admin-guide/mm/userfaultfd.rst. Two rules lose the guest when they are broken, and
// nothing reports it:
//   (a) From the first stale punch on, pages enter by fill() and fill_zero() only. A pwrite of
//       4 KiB into huge tmpfs makes 512 pages present; a mere read through a mapping makes a zero
//       page. What is present never faults.
//   (b) The kernel wakes only whom the filled page was missing through this mapping. Whoever waits
//       for it in another view must be woken by us.
#pragma once

#include <sys/types.h>

#include <memory>
#include <span>
#include <vector>

#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// A thread of QEMU, or a vCPU, waits for a page.
struct Fault {
    BlockIndex block = 0;
    PageIndex page = 0;  // on hugetlbfs the first page of the chunk
    uint32_t view = 0;   // index of the mapping in FaultMemory::mappings(block)
};

// What a fill found. Pages that existed were woken and keep their content.
struct FillTotals {
    uint64_t filled_pages = 0;
    uint64_t existing_pages = 0;
};

// Registers every mapping of every RAM block in the process, and fills. Thread-safe but for
// register_all() and unregister_all(). fill(), fill_zero(), wake() and read() allocate nothing
// unless they fail. Errors of all of them: NotFound when the process is gone (or has unmapped its
// RAM); ResourceExhausted when the host has no memory for the page; Unavailable when the kernel
// kept asking to try again. What was filled before an error stays filled.
class FaultMemory {
  public:
    // One ioctl fills no more, so that a fault is not held up by the bulk.
    static constexpr uint64_t kPiecePages = 16;

    // `userfaultfd` as attach_userfaultfd() gives it: non-blocking, handshake done. `blocks` must
    // outlive it. Errors: find_ram_mappings'; mmap's.
    static absl::StatusOr<std::unique_ptr<FaultMemory>> create(pid_t pid,
                                                               std::span<const RamBlock> blocks,
                                                               UniqueFd userfaultfd);

    // From now on who touches a page that is not there waits until it is filled. Registering again
    // what an earlier agent registered changes nothing. Errors: FailedPrecondition (another
    // userfaultfd has it; the kernel can't fill such memory); the common ones. What was registered
    // stays so.
    absl::Status register_all();
    // Ends the waiting; who waits is woken and finds zeros where nothing was filled. A process that
    // is gone is no error.
    absl::Status unregister_all();
    // Whether the process maps its RAM nowhere else: there it would find zeros instead of waiting.
    // To be asked once it has loaded its device state, before it runs. Errors: FailedPrecondition
    // (there is another mapping, or one is gone); NotFound.
    [[nodiscard]] absl::Status check_mappings() const;

    // Fills the pages from `first` on; `bytes` is whole pages, on hugetlbfs whole aligned chunks.
    // `view`: where a fault was seen (0 when none was), preferred for the fill. Wakes all views.
    // Errors: InvalidArgument (out of range, or no whole pages); the common ones.
    absl::Status fill(BlockIndex block, PageIndex first, std::span<const std::byte> bytes,
                      uint32_t view, FillTotals& totals);
    // The same with zeros.
    absl::Status fill_zero(BlockIndex block, PageRange pages, uint32_t view, FillTotals& totals);
    // Has whoever waits for these pages, in whatever view, look again.
    absl::Status wake(BlockIndex block, PageRange pages);
    // The same for all pages: faults that were read (by whomever) and not answered come again.
    void wake_all();

    // Reads events without blocking; returns how many, 0 when none waits. At most kReadLimit.
    absl::StatusOr<size_t> read(std::span<Fault> faults);
    static constexpr size_t kReadLimit = 64;
    // Readable when events wait.
    [[nodiscard]] int fd() const { return userfaultfd_.get(); }

    // Pages that can only be filled together: 1, or 512 on hugetlbfs.
    [[nodiscard]] uint64_t granule_pages(BlockIndex block) const {
        return blocks_[block].backing == Backing::kHugetlb2M ? kPagesPerChunk : 1;
    }
    [[nodiscard]] std::span<const RamBlock> blocks() const { return blocks_; }
    [[nodiscard]] std::span<const RamMapping> mappings(BlockIndex block) const {
        return mappings_[block];
    }

  private:
    struct View {  // one mapping, for finding it by address
        AddressRange range;
        BlockIndex block = 0;
        uint32_t index = 0;
    };
    struct Piece {  // of one mapping
        uint64_t address = 0;
        uint64_t bytes = 0;
        const RamMapping* mapping = nullptr;
    };

    FaultMemory(pid_t pid, std::span<const RamBlock> blocks, UniqueFd userfaultfd);
    absl::Status find_mappings();
    // NotFound when the process has no memory any more.
    [[nodiscard]] absl::Status process_error(const RamBlock& block, int error_number,
                                             const char* what) const;
    [[nodiscard]] absl::Status check_range(BlockIndex block, PageRange pages) const;
    // The longest piece at `offset` that one ioctl may fill.
    [[nodiscard]] Piece first_piece(BlockIndex block, Bytes offset, Bytes end, uint32_t view) const;
    // Calls step(piece, bytes done before) -> bytes done, or -errno, until all pages are done.
    template <typename Step>
    absl::Status fill_pieces(const char* what, BlockIndex block, PageRange pages, uint32_t view,
                             FillTotals& totals, Step&& step);
    void wake_others(BlockIndex block, Bytes begin, Bytes end, const RamMapping* filled) const;
    [[nodiscard]] const View* find_view(uint64_t address) const;

    pid_t pid_;
    std::span<const RamBlock> blocks_;
    UniqueFd userfaultfd_;
    std::vector<std::vector<RamMapping>> mappings_;  // by block
    std::vector<View> views_;                        // ascending in address
    Mapping zero_chunk_;  // never written; hugetlbfs has no UFFDIO_ZEROPAGE
};

}  // namespace godwit
