#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "dirty-tracking/attach/attach.h"
#include "dirty-tracking/writeprotect/swap.h"
#include "dirty-tracking/writeprotect/write_protect_pieces.h"

namespace godwit {
namespace {

// Unregistering looks at every page (70 ms/GiB) under the lock for writing: a guest of 64 GiB would
// stand still for seconds. By pieces the mapping is split for a moment and merged again.
constexpr uint64_t kUnregisterBytes = uint64_t{16} << 20;  // 1.1 ms
// UFFDIO_WRITEPROTECT answers EAGAIN while the target changes its mappings.
constexpr int kMaxTries = 1000;

}  // namespace

void UffdWriteProtectTracker::Found::add(PageRange range) const {
    dirty.set_range(range);
    unsettled.set_range(range);
}

UffdWriteProtectTracker::UffdWriteProtectTracker(pid_t pid, UniqueFd userfaultfd,
                                                 PagemapScan pagemap, WriteProtectOptions options)
    : pid_(pid),
      userfaultfd_(std::move(userfaultfd)),
      pagemap_(std::move(pagemap)),
      options_(std::move(options)) {}

UffdWriteProtectTracker::~UffdWriteProtectTracker() { (void)stop(); }

absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> UffdWriteProtectTracker::create(
    pid_t pid, std::span<const RamBlock> blocks, std::span<const pid_t> vcpu_threads,
    WriteProtectOptions options) {
    // Wrong mappings are found before anything of the target is touched.
    for (const RamBlock& block : blocks) {
        const auto mappings = find_ram_mappings(
            pid, {block.name, block.device, block.inode, block.size}, options.excluded_views);
        if (!mappings.ok()) return annotate(mappings.status(), "Cannot track writes");
    }
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(pid, vcpu_threads));
    GODWIT_ASSIGN_OR_RETURN(
        auto tracker,
        create_with(pid, blocks, std::move(attachment.userfaultfd), std::move(options)));
    tracker->attach_hold_ = attachment.hold;
    tracker->left_by_others_ = attachment.adopted;
    return tracker;
}

absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> UffdWriteProtectTracker::create_with(
    pid_t pid, std::span<const RamBlock> blocks, UniqueFd userfaultfd,
    WriteProtectOptions options) {
    GODWIT_ASSIGN_OR_RETURN(PagemapScan pagemap, PagemapScan::open(pid, options.region_limit));
    std::unique_ptr<UffdWriteProtectTracker> tracker(new UffdWriteProtectTracker(
        pid, std::move(userfaultfd), std::move(pagemap), std::move(options)));
    for (const RamBlock& block : blocks) {
        TrackedBlock tracked{.name = block.name,
                             .device = block.device,
                             .inode = block.inode,
                             .size = block.size,
                             .backing = block.backing,
                             .armed = PageBitmap(block.chunk_count()),
                             .touched = PageBitmap(block.chunk_count())};
        tracked.file.reset(::fcntl(block.file.get(), F_DUPFD_CLOEXEC, 0));
        if (!tracked.file.valid()) return errno_status(errno, "fcntl(F_DUPFD_CLOEXEC)");
        tracked.may_skim =
            tracker->options_.skim && !can_be_swapped(tracked.file.get(), tracked.device);
        tracker->blocks_.push_back(std::move(tracked));
    }
    GODWIT_RETURN_IF_ERROR(annotate(tracker->find_mappings(), "Cannot track writes"));
    return tracker;
}

absl::Status UffdWriteProtectTracker::find_mappings() {
    for (TrackedBlock& block : blocks_) {
        GODWIT_ASSIGN_OR_RETURN(
            block.mappings,
            find_ram_mappings(pid_, {block.name, block.device, block.inode, block.size},
                              options_.excluded_views));
        GODWIT_ASSIGN_OR_RETURN(block.excluded, find_ram_mappings(pid_, {block.name, block.device,
                                                                         block.inode, block.size}));
        std::erase_if(block.excluded, [&](const RamMapping& mapping) {
            return std::find(block.mappings.begin(), block.mappings.end(), mapping) !=
                   block.mappings.end();
        });
    }
    for (TrackedBlock& block : blocks_) {
        block.witnesses.clear();
        if (options_.views_are_witnesses && huge_mappings_stay_away())
            block.witnesses = block.excluded;
    }
    return check_process();
}

absl::Status UffdWriteProtectTracker::start() {
    (void)stop();  // where that fails, the mappings are others now
    GODWIT_RETURN_IF_ERROR(find_mappings());
    absl::Status status = register_mappings();
    if (status.ok()) status = begin_skimming();
    for (TrackedBlock& block : blocks_) {
        if (!status.ok()) break;
        if (!block.skimmed) status = arm_new_data(block, nullptr);
    }
    if (!status.ok()) {
        (void)stop();
        return annotate(status, "Cannot write-protect guest memory");
    }
    started_ = true;
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::register_mappings() {
    for (TrackedBlock& block : blocks_) {
        for (const RamMapping& mapping : block.mappings) {
            GODWIT_RETURN_IF_ERROR(register_mapping(block, mapping));
            ++block.registered_count;
            if (!left_by_others_) continue;
            // What an earlier agent armed, and its modes, must go: a mode stays when another one is
            // asked for. Only now, because older kernels let anybody unregister.
            GODWIT_RETURN_IF_ERROR(unregister_mapping(block, mapping));
            GODWIT_RETURN_IF_ERROR(register_mapping(block, mapping));
        }
        // It may have tracked the views that are somebody else's now.
        for (const RamMapping& mapping : block.excluded) {
            if (!left_by_others_) break;
            GODWIT_RETURN_IF_ERROR(register_mapping(block, mapping));
            GODWIT_RETURN_IF_ERROR(unregister_mapping(block, mapping));
        }
    }
    left_by_others_ = false;
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::register_mapping(const TrackedBlock& block,
                                                       const RamMapping& mapping) const {
    uffdio_register argument{.range = {.start = mapping.address, .len = mapping.length},
                             .mode = UFFDIO_REGISTER_MODE_WP};
    if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &argument) == 0) return absl::OkStatus();
    const int error_number = errno;
    GODWIT_RETURN_IF_ERROR(check_process());
    if (error_number == EBUSY) {
        return absl::FailedPreconditionError(
            fmt::format("RAM block {}: UFFDIO_REGISTER: EBUSY; another userfaultfd has it (a QEMU "
                        "snapshot or post-copy, another agent?)",
                        block.name));
    }
    return annotate(errno_status(error_number, "UFFDIO_REGISTER"),
                    fmt::format("RAM block {}", block.name));
}

absl::Status UffdWriteProtectTracker::unregister_mapping(const TrackedBlock& block,
                                                         const RamMapping& mapping) const {
    AddressRange rest{mapping.address, mapping.address + mapping.length};
    absl::Status first;
    for (; rest.begin < rest.end; rest.begin = first_piece(rest, kUnregisterBytes).end) {
        const AddressRange piece = first_piece(rest, kUnregisterBytes);
        uffdio_range range{.start = piece.begin, .len = piece.end - piece.begin};
        if (::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range) == 0) continue;
        const int error_number = errno;
        if (!check_process().ok()) return absl::OkStatus();  // nothing is left to disarm
        first.Update(annotate(errno_status(error_number, "UFFDIO_UNREGISTER"),
                              fmt::format("RAM block {}", block.name)));
    }
    return first;
}

absl::Status UffdWriteProtectTracker::stop() {
    started_ = false;
    absl::Status first;
    for (TrackedBlock& block : blocks_) {
        block.armed.clear_all();
        for (; block.registered_count > 0; --block.registered_count)
            first.Update(unregister_mapping(block, block.mappings[block.registered_count - 1]));
    }
    return first;
}

absl::Status UffdWriteProtectTracker::rearm(BlockIndex /*block*/, PageRange /*range*/) {
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::check_shape(const PageSet& set) const {
    if (set.size() != blocks_.size())
        return absl::InvalidArgumentError("the page set has another number of RAM blocks");
    for (size_t i = 0; i < blocks_.size(); ++i)
        if (set[i].page_count() != blocks_[i].size / kPageBytes)
            return absl::InvalidArgumentError("a bitmap of the page set has another size");
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::collect(PageSet& dirty, PageSet& unsettled) {
    if (!started_) return absl::FailedPreconditionError("the tracker was not started");
    GODWIT_RETURN_IF_ERROR(check_shape(dirty));
    GODWIT_RETURN_IF_ERROR(check_shape(unsettled));
    absl::Status first;
    for (size_t i = 0; i < blocks_.size(); ++i) {
        const Found found{dirty[i], unsettled[i]};
        absl::Status status = scan_block(blocks_[i], found);
        status.Update(blocks_[i].skimmed ? skim_block(blocks_[i], found)
                                         : arm_new_data(blocks_[i], &found));
        const absl::Status mappings = check_mappings(blocks_[i]);
        if (!mappings.ok()) found.add_all();
        first.Update(mappings);  // the reason, where both failed
        first.Update(status);
    }
    first.Update(check_huge_pages(dirty, unsettled));
    return annotate(first, "Cannot collect written pages");
}

// With SEEK_DATA alone. SEEK_HOLE has no end: on 4 KiB tmpfs it looks at every page up to the next
// hole (33 ms/GiB), for each new chunk again.
absl::Status UffdWriteProtectTracker::arm_new_data(TrackedBlock& block, const Found* found) {
    const ChunkIndex chunk_count = block.armed.page_count();
    for (ChunkIndex at = block.armed.next_clear(0); at < chunk_count;) {
        absl::StatusOr<ChunkIndex> chunk = next_chunk_with_data(block, at);
        if (chunk.ok() && *chunk != at) {
            if (*chunk == chunk_count) break;
            at = block.armed.next_clear(*chunk);  // it may be armed already
            continue;
        }
        PageRange run{at, at + 1};
        constexpr uint64_t kLongestRun = kArmBytes / kChunkBytes;
        while (chunk.ok() && run.end < chunk_count && run.count() < kLongestRun &&
               !block.armed.test(run.end)) {
            chunk = next_chunk_with_data(block, run.end);
            if (!chunk.ok() || *chunk != run.end) break;
            ++run.end;
        }
        absl::Status status = chunk.ok() ? arm_chunks(block, run) : chunk.status();
        // Now, and not before: what was written before the arming is in the file.
        if (status.ok() && found != nullptr) status = report_data(block, run, *found);
        if (!status.ok()) {
            // Unarmed chunks hold what nobody was told of.
            if (found != nullptr) found->add_all();
            return status;
        }
        at = block.armed.next_clear(run.end);
    }
    return absl::OkStatus();
}

absl::StatusOr<ChunkIndex> UffdWriteProtectTracker::next_chunk_with_data(const TrackedBlock& block,
                                                                         ChunkIndex from) {
    GODWIT_ASSIGN_OR_RETURN(const PageIndex page, next_data_page(block, from * kPagesPerChunk));
    return page / kPagesPerChunk;
}

absl::StatusOr<PageIndex> UffdWriteProtectTracker::next_data_page(const TrackedBlock& block,
                                                                  PageIndex from) {
    GODWIT_ASSIGN_OR_RETURN(const Bytes data,
                            find_data(block.file.get(), from * kPageBytes, block.size));
    return data / kPageBytes;
}

// A huge page holds data as a whole. On 4 KiB tmpfs every page is asked for.
absl::Status UffdWriteProtectTracker::report_data(const TrackedBlock& block, PageRange chunks,
                                                  const Found& found) {
    const PageRange pages{chunks.begin * kPagesPerChunk, chunks.end * kPagesPerChunk};
    if (block.backing != Backing::kTmpfs4k) {
        found.add(pages);
        return absl::OkStatus();
    }
    for (PageIndex page = pages.begin; page < pages.end; ++page) {
        GODWIT_ASSIGN_OR_RETURN(page, next_data_page(block, page));
        if (page < pages.end) found.add({page, page + 1});
    }
    return absl::OkStatus();
}

// In every mapping, or not at all: a chunk counts as armed only when it is so in each.
absl::Status UffdWriteProtectTracker::arm_chunks(TrackedBlock& block, PageRange chunks) {
    for (const RamMapping& mapping : block.mappings) {
        AddressRange rest = view_of(mapping, chunks.begin * kChunkBytes, chunks.end * kChunkBytes);
        for (; rest.begin < rest.end; rest.begin = first_piece(rest, kArmBytes).end)
            GODWIT_RETURN_IF_ERROR(write_protect(first_piece(rest, kArmBytes)));
    }
    block.armed.set_range(chunks);
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::write_protect(AddressRange range) {
    uffdio_writeprotect argument{.range = {.start = range.begin, .len = range.end - range.begin},
                                 .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    for (int tries = 0; tries < kMaxTries; ++tries) {
        if (::ioctl(userfaultfd_.get(), UFFDIO_WRITEPROTECT, &argument) == 0)
            return absl::OkStatus();
        if (errno != EAGAIN && errno != EINTR) break;
    }
    const int error_number = errno;
    GODWIT_RETURN_IF_ERROR(check_process());
    return errno_status(error_number, "UFFDIO_WRITEPROTECT");
}

absl::Status UffdWriteProtectTracker::scan_block(TrackedBlock& block, const Found& found) {
    absl::Status first;
    const ChunkIndex chunk_count = block.armed.page_count();
    for (ChunkIndex at = block.armed.next_set(0); at < chunk_count;) {
        const ChunkIndex end = block.armed.next_clear(at);
        first.Update(scan_chunks(block, {at, end}, found));
        if (end == chunk_count) break;
        at = block.armed.next_set(end);
    }
    return first;
}

absl::Status UffdWriteProtectTracker::scan_chunks(const TrackedBlock& block, PageRange chunks,
                                                  const Found& found) {
    absl::Status first;
    for (const RamMapping& mapping : block.mappings) {
        AddressRange rest = view_of(mapping, chunks.begin * kChunkBytes, chunks.end * kChunkBytes);
        for (; rest.begin < rest.end; rest.begin = first_piece(rest, kScanBytes).end)
            first.Update(scan_range(mapping, first_piece(rest, kScanBytes), found));
    }
    return first;
}

absl::Status UffdWriteProtectTracker::scan_range(const RamMapping& mapping, AddressRange range,
                                                 const Found& found) {
    absl::Status status = pagemap_.take_written(
        range, [&](AddressRange written) { found.add(pages_of(mapping, written)); });
    if (status.ok()) return status;
    found.add(pages_of(mapping, range));
    // The pages that it did not come to are still marked as written and come with the next scan.
    return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status UffdWriteProtectTracker::check_process() const {
    if (pagemap_.memory_exists()) return absl::OkStatus();
    return absl::NotFoundError(fmt::format("process {} ended", pid_));
}

absl::Status UffdWriteProtectTracker::check_mappings(const TrackedBlock& block) const {
    for (const RamMapping& mapping : block.mappings) {
        const uint64_t last_page = mapping.address + mapping.length - kPageBytes;
        if (pagemap_.is_registered(mapping.address) && pagemap_.is_registered(last_page)) continue;
        GODWIT_RETURN_IF_ERROR(check_process());
        return absl::FailedPreconditionError(
            fmt::format("RAM block {}: QEMU has unmapped it or mapped it anew", block.name));
    }
    return absl::OkStatus();
}

}  // namespace godwit
