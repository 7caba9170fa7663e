#include "engine/postcopy/fault_memory.h"

#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "dirty-tracking/writeprotect/write_protect_pieces.h"

namespace godwit {
namespace {

// The kernel answers EAGAIN while the process changes its mappings, and when it could not finish.
constexpr int kMaxTries = 10'000;

absl::Status fill_failed(int error_number, const char* what, const RamBlock& block) {
    switch (error_number) {
        case ENOENT:
        case ESRCH:
            return absl::NotFoundError(fmt::format(
                "Cannot fill guest memory: RAM block {}: {}: {}; QEMU is gone, or has unmapped it",
                block.name, what, strerrorname_np(error_number)));
        case EAGAIN:
            return absl::UnavailableError(
                fmt::format("Cannot fill guest memory: RAM block {}: {}: EAGAIN, {} times",
                            block.name, what, kMaxTries));
        case ENOMEM:
            return absl::ResourceExhaustedError(
                fmt::format("Cannot fill guest memory: RAM block {}: {}: ENOMEM; is the mount of "
                            "{} full? The guest waits: make room there",
                            block.name, what, block.path));
        default:
            return annotate(errno_status(error_number, what),
                            fmt::format("Cannot fill guest memory: RAM block {}", block.name));
    }
}

void wake_range(int userfaultfd, AddressRange addresses) {
    uffdio_range range{.start = addresses.begin, .len = addresses.end - addresses.begin};
    // It looks at nothing but the queue of who waits: it fails for a wrong range only.
    (void)::ioctl(userfaultfd, UFFDIO_WAKE, &range);
}

}  // namespace

FaultMemory::FaultMemory(pid_t pid, std::span<const RamBlock> blocks, UniqueFd userfaultfd)
    : pid_(pid), blocks_(blocks), userfaultfd_(std::move(userfaultfd)) {}

absl::StatusOr<std::unique_ptr<FaultMemory>> FaultMemory::create(pid_t pid,
                                                                 std::span<const RamBlock> blocks,
                                                                 UniqueFd userfaultfd) {
    std::unique_ptr<FaultMemory> memory(new FaultMemory(pid, blocks, std::move(userfaultfd)));
    GODWIT_RETURN_IF_ERROR(annotate(memory->find_mappings(), "Cannot serve page faults"));
    const bool huge = std::any_of(blocks.begin(), blocks.end(), [](const RamBlock& block) {
        return block.backing == Backing::kHugetlb2M;
    });
    if (huge) {
        GODWIT_ASSIGN_OR_RETURN(memory->zero_chunk_, Mapping::anonymous(kChunkBytes));
    }
    return memory;
}

absl::Status FaultMemory::find_mappings() {
    for (BlockIndex block = 0; block < blocks_.size(); ++block) {
        const RamBlock& ram = blocks_[block];
        GODWIT_ASSIGN_OR_RETURN(
            std::vector<RamMapping> found,
            find_ram_mappings(pid_, {ram.name, ram.device, ram.inode, ram.size}));
        for (uint32_t i = 0; i < found.size(); ++i)
            views_.push_back({.range = {found[i].address, found[i].address + found[i].length},
                              .block = block,
                              .index = i});
        mappings_.push_back(std::move(found));
    }
    std::sort(views_.begin(), views_.end(),
              [](const View& a, const View& b) { return a.range.begin < b.range.begin; });
    return absl::OkStatus();
}

absl::Status FaultMemory::process_error(const RamBlock& block, int error_number,
                                        const char* what) const {
    // The kernel says ENOMEM for a process without memory.
    const auto now = find_ram_mappings(pid_, {block.name, block.device, block.inode, block.size});
    if (absl::IsNotFound(now.status())) return now.status();
    return annotate(errno_status(error_number, what), fmt::format("RAM block {}", block.name));
}

absl::Status FaultMemory::register_all() {
    for (const View& view : views_) {
        const RamBlock& block = blocks_[view.block];
        uffdio_register argument{
            .range = {.start = view.range.begin, .len = view.range.end - view.range.begin},
            .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &argument) != 0) {
            if (errno == EBUSY)
                return absl::FailedPreconditionError(
                    fmt::format("Cannot serve page faults: RAM block {}: UFFDIO_REGISTER: EBUSY; "
                                "another userfaultfd has it (QEMU's own post-copy, another agent?)",
                                block.name));
            return annotate(process_error(block, errno, "UFFDIO_REGISTER"),
                            "Cannot serve page faults");
        }
        uint64_t needed = uint64_t{1} << _UFFDIO_COPY | uint64_t{1} << _UFFDIO_WAKE;
        if (granule_pages(view.block) == 1) needed |= uint64_t{1} << _UFFDIO_ZEROPAGE;
        if ((argument.ioctls & needed) != needed)
            return absl::FailedPreconditionError(
                fmt::format("Cannot serve page faults: RAM block {}: this kernel can't fill such "
                            "memory (ioctls {:#x})",
                            block.name, argument.ioctls));
    }
    return absl::OkStatus();
}

absl::Status FaultMemory::unregister_all() {
    absl::Status first;
    for (const View& view : views_) {
        uffdio_range range{.start = view.range.begin, .len = view.range.end - view.range.begin};
        if (::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range) == 0) continue;
        const absl::Status status = process_error(blocks_[view.block], errno, "UFFDIO_UNREGISTER");
        if (absl::IsNotFound(status)) return first;  // nobody is left to wait
        first.Update(annotate(status, "Cannot stop serving page faults"));
    }
    return first;
}

absl::Status FaultMemory::check_mappings() const {
    for (BlockIndex block = 0; block < blocks_.size(); ++block) {
        const RamBlock& ram = blocks_[block];
        GODWIT_ASSIGN_OR_RETURN(
            const std::vector<RamMapping> found,
            find_ram_mappings(pid_, {ram.name, ram.device, ram.inode, ram.size}));
        if (found != mappings_[block])
            return absl::FailedPreconditionError(
                fmt::format("Cannot serve page faults: RAM block {}: QEMU has mapped it anew since "
                            "its mappings were registered",
                            ram.name));
    }
    return absl::OkStatus();
}

absl::Status FaultMemory::check_range(BlockIndex block, PageRange pages) const {
    if (block >= blocks_.size() || pages.begin > pages.end ||
        pages.end > blocks_[block].page_count())
        return absl::InvalidArgumentError(fmt::format("there are no pages {} to {} of RAM block {}",
                                                      pages.begin, pages.end, block));
    const uint64_t granule = granule_pages(block);
    if (pages.begin % granule != 0 || pages.end % granule != 0)
        return absl::InvalidArgumentError(
            fmt::format("pages {} to {} of RAM block {} are no whole huge pages", pages.begin,
                        pages.end, blocks_[block].name));
    return absl::OkStatus();
}

FaultMemory::Piece FaultMemory::first_piece(BlockIndex block, Bytes offset, Bytes end,
                                            uint32_t view) const {
    const std::vector<RamMapping>& mappings = mappings_[block];
    const auto covers = [offset](const RamMapping& mapping) {
        return mapping.offset <= offset && offset < mapping.offset + mapping.length;
    };
    const RamMapping* mapping = nullptr;
    if (view < mappings.size() && covers(mappings[view])) {
        mapping = &mappings[view];
    } else {
        // find_ram_mappings() saw to it that there is one for every page.
        mapping = &*std::find_if(mappings.begin(), mappings.end() - 1, covers);
    }
    const Bytes limit = std::max(kPiecePages, granule_pages(block)) * kPageBytes;
    const Bytes stop = std::min({end, offset + limit, mapping->offset + mapping->length});
    return {.address = mapping->address + (offset - mapping->offset),
            .bytes = stop - offset,
            .mapping = mapping};
}

void FaultMemory::wake_others(BlockIndex block, Bytes begin, Bytes end,
                              const RamMapping* filled) const {
    for (const RamMapping& mapping : mappings_[block]) {
        if (&mapping == filled) continue;
        const AddressRange range = view_of(mapping, begin, end);
        if (range.begin < range.end) wake_range(userfaultfd_.get(), range);
    }
}

template <typename Step>
absl::Status FaultMemory::fill_pieces(const char* what, BlockIndex block, PageRange pages,
                                      uint32_t view, FillTotals& totals, Step&& step) {
    const Bytes begin = pages.begin * kPageBytes;
    const Bytes end = pages.end * kPageBytes;
    int tries = 0;
    for (Bytes at = begin; at < end;) {
        const Piece piece = first_piece(block, at, end, view);
        const int64_t done = step(piece, at - begin);
        if (done > 0) {
            wake_others(block, at, at + static_cast<Bytes>(done), piece.mapping);
            totals.filled_pages += static_cast<uint64_t>(done) / kPageBytes;
            at += static_cast<Bytes>(done);
            tries = 0;
        } else if (done == -EEXIST) {
            const uint64_t granule = granule_pages(block);
            wake_others(block, at, at + granule * kPageBytes, nullptr);
            totals.existing_pages += granule;
            at += granule * kPageBytes;
        } else if (done != -EAGAIN || ++tries == kMaxTries) {
            return fill_failed(static_cast<int>(-done), what, blocks_[block]);
        } else {
            ::sched_yield();
        }
    }
    return absl::OkStatus();
}

absl::Status FaultMemory::fill(BlockIndex block, PageIndex first, std::span<const std::byte> bytes,
                               uint32_t view, FillTotals& totals) {
    const PageRange pages{first, first + bytes.size() / kPageBytes};
    if (bytes.size() % kPageBytes != 0)
        return absl::InvalidArgumentError(fmt::format("{} bytes are no whole pages", bytes.size()));
    GODWIT_RETURN_IF_ERROR(check_range(block, pages));
    const auto step = [&](const Piece& piece, Bytes at) -> int64_t {
        uffdio_copy argument{.dst = piece.address,
                             .src = reinterpret_cast<uintptr_t>(bytes.data() + at),
                             .len = piece.bytes};
        if (::ioctl(userfaultfd_.get(), UFFDIO_COPY, &argument) == 0 || argument.copy > 0)
            return argument.copy;
        return -errno;
    };
    return fill_pieces("UFFDIO_COPY", block, pages, view, totals, step);
}

absl::Status FaultMemory::fill_zero(BlockIndex block, PageRange pages, uint32_t view,
                                    FillTotals& totals) {
    GODWIT_RETURN_IF_ERROR(check_range(block, pages));
    const bool huge = granule_pages(block) > 1;
    const auto step = [&](const Piece& piece, Bytes) -> int64_t {
        if (huge) {
            uffdio_copy argument{.dst = piece.address,
                                 .src = reinterpret_cast<uintptr_t>(zero_chunk_.data()),
                                 .len = piece.bytes};
            if (::ioctl(userfaultfd_.get(), UFFDIO_COPY, &argument) == 0 || argument.copy > 0)
                return argument.copy;
        } else {
            uffdio_zeropage argument{.range = {.start = piece.address, .len = piece.bytes}};
            if (::ioctl(userfaultfd_.get(), UFFDIO_ZEROPAGE, &argument) == 0 ||
                argument.zeropage > 0)
                return argument.zeropage;
        }
        return -errno;
    };
    return fill_pieces(huge ? "UFFDIO_COPY" : "UFFDIO_ZEROPAGE", block, pages, view, totals, step);
}

absl::Status FaultMemory::wake(BlockIndex block, PageRange pages) {
    GODWIT_RETURN_IF_ERROR(check_range(block, pages));
    wake_others(block, pages.begin * kPageBytes, pages.end * kPageBytes, nullptr);
    return absl::OkStatus();
}

void FaultMemory::wake_all() {
    for (const View& view : views_) wake_range(userfaultfd_.get(), view.range);
}

absl::StatusOr<size_t> FaultMemory::read(std::span<Fault> faults) {
    std::array<uffd_msg, kReadLimit> messages;
    const size_t limit = std::min(faults.size(), kReadLimit);
    const ssize_t got = ::read(userfaultfd_.get(), messages.data(), limit * sizeof(uffd_msg));
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) return size_t{0};
        return annotate(errno_status(errno, "read of a userfaultfd"), "Cannot serve page faults");
    }
    size_t count = 0;
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uffd_msg); ++i) {
        if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
        const uint64_t address = messages[i].arg.pagefault.address;
        const View* view = find_view(address);
        if (view == nullptr) continue;  // no mapping that we registered
        const Bytes offset =
            address - view->range.begin + mappings_[view->block][view->index].offset;
        const PageIndex page = offset / kPageBytes;
        faults[count++] = {.block = view->block,
                           .page = page - page % granule_pages(view->block),
                           .view = view->index};
    }
    return count;
}

const FaultMemory::View* FaultMemory::find_view(uint64_t address) const {
    const auto after = std::upper_bound(
        views_.begin(), views_.end(), address,
        [](uint64_t wanted, const View& view) { return wanted < view.range.begin; });
    if (after == views_.begin()) return nullptr;
    const View& view = *std::prev(after);
    return address < view.range.end ? &view : nullptr;
}

}  // namespace godwit
