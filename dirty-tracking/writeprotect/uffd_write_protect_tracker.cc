#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "dirty-tracking/attach/attach.h"

namespace godwit {
namespace {

// One ioctl holds the target's mmap lock, and the kernel stops KVM's faults in its whole range
// meanwhile (MMU notifier): 64 MiB are 30–150 µs.
constexpr uint64_t kStepBytes = uint64_t{64} << 20;
// UFFDIO_WRITEPROTECT answers EAGAIN while the target changes its mappings.
constexpr int kMaxTries = 1000;

AddressRange next_step(AddressRange range) {
    return {range.begin, std::min(range.end, range.begin + kStepBytes)};
}

// Where `mapping` has the bytes [begin, end) of the file; empty when it has none of them.
AddressRange view_of(const RamMapping& mapping, Bytes begin, Bytes end) {
    begin = std::max(begin, mapping.offset);
    end = std::min(end, mapping.offset + mapping.length);
    if (begin >= end) return {};
    return {mapping.address + (begin - mapping.offset), mapping.address + (end - mapping.offset)};
}

PageRange pages_of(const RamMapping& mapping, AddressRange range) {
    return {(range.begin - mapping.address + mapping.offset) / kPageBytes,
            (range.end - mapping.address + mapping.offset) / kPageBytes};
}

}  // namespace

UffdWriteProtectTracker::UffdWriteProtectTracker(pid_t pid, UniqueFd process, UniqueFd userfaultfd,
                                                 PagemapScan pagemap)
    : pid_(pid),
      process_(std::move(process)),
      userfaultfd_(std::move(userfaultfd)),
      pagemap_(std::move(pagemap)) {}

UffdWriteProtectTracker::~UffdWriteProtectTracker() { (void)stop(); }

absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> UffdWriteProtectTracker::create(
    pid_t pid, std::span<const RamBlock> blocks, std::span<const pid_t> vcpu_threads) {
    // Wrong mappings are found before anything of the target is touched.
    for (const RamBlock& block : blocks) {
        const auto mappings =
            find_ram_mappings(pid, {block.name, block.device, block.inode, block.size});
        if (!mappings.ok()) return annotate(mappings.status(), "Cannot track writes");
    }
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(pid, vcpu_threads));
    GODWIT_ASSIGN_OR_RETURN(auto tracker,
                            create_with(pid, blocks, std::move(attachment.userfaultfd)));
    tracker->attach_hold_ = attachment.hold;
    return tracker;
}

absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> UffdWriteProtectTracker::create_with(
    pid_t pid, std::span<const RamBlock> blocks, UniqueFd userfaultfd, size_t region_limit) {
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid()) return errno_status(errno, fmt::format("pidfd_open of process {}", pid));
    GODWIT_ASSIGN_OR_RETURN(PagemapScan pagemap, PagemapScan::open(pid, region_limit));
    std::unique_ptr<UffdWriteProtectTracker> tracker(new UffdWriteProtectTracker(
        pid, std::move(process), std::move(userfaultfd), std::move(pagemap)));
    for (const RamBlock& block : blocks) {
        TrackedBlock tracked{.name = block.name,
                             .device = block.device,
                             .inode = block.inode,
                             .size = block.size,
                             .armed = PageBitmap(block.chunk_count())};
        tracked.file.reset(::fcntl(block.file.get(), F_DUPFD_CLOEXEC, 0));
        if (!tracked.file.valid()) return errno_status(errno, "fcntl(F_DUPFD_CLOEXEC)");
        tracker->blocks_.push_back(std::move(tracked));
    }
    GODWIT_RETURN_IF_ERROR(annotate(tracker->find_mappings(), "Cannot track writes"));
    return tracker;
}

absl::Status UffdWriteProtectTracker::find_mappings() {
    for (TrackedBlock& block : blocks_) {
        GODWIT_ASSIGN_OR_RETURN(
            block.mappings,
            find_ram_mappings(pid_, {block.name, block.device, block.inode, block.size}));
    }
    return process_ended();
}

absl::Status UffdWriteProtectTracker::start() {
    GODWIT_RETURN_IF_ERROR(stop());
    GODWIT_RETURN_IF_ERROR(find_mappings());
    absl::Status status = register_mappings();
    for (TrackedBlock& block : blocks_) {
        if (!status.ok()) break;
        status = arm_new_data(block, nullptr);
    }
    if (!status.ok()) {
        (void)stop();
        return annotate(status, "Cannot write-protect guest memory");
    }
    started_ = true;
    return absl::OkStatus();
}

// Unregistering first forgets what an earlier agent armed, and its modes.
absl::Status UffdWriteProtectTracker::register_mappings() {
    registered_ = true;
    for (const TrackedBlock& block : blocks_) {
        for (const RamMapping& mapping : block.mappings) {
            uffdio_range range{.start = mapping.address, .len = mapping.length};
            (void)::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range);
            uffdio_register argument{.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
            if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &argument) == 0) continue;
            const int error_number = errno;
            GODWIT_RETURN_IF_ERROR(process_ended());
            if (error_number == EBUSY) {
                return absl::FailedPreconditionError(fmt::format(
                    "RAM block {}: UFFDIO_REGISTER: EBUSY; another userfaultfd has it (a QEMU "
                    "snapshot or post-copy, another agent?)",
                    block.name));
            }
            return annotate(errno_status(error_number, "UFFDIO_REGISTER"),
                            fmt::format("RAM block {}", block.name));
        }
    }
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::unregister_mappings() {
    absl::Status first;
    for (const TrackedBlock& block : blocks_) {
        for (const RamMapping& mapping : block.mappings) {
            uffdio_range range{.start = mapping.address, .len = mapping.length};
            if (::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range) == 0) continue;
            const int error_number = errno;
            if (!process_ended().ok()) return absl::OkStatus();  // nothing is left to disarm
            first.Update(annotate(errno_status(error_number, "UFFDIO_UNREGISTER"),
                                  fmt::format("RAM block {}", block.name)));
        }
    }
    return first;
}

absl::Status UffdWriteProtectTracker::stop() {
    started_ = false;
    for (TrackedBlock& block : blocks_) block.armed.clear_all();
    if (!registered_) return absl::OkStatus();
    registered_ = false;
    return unregister_mappings();
}

absl::Status UffdWriteProtectTracker::rearm(BlockIndex /*block*/, PageRange /*range*/) {
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::collect(PageSet& dirty) {
    if (!started_) return absl::FailedPreconditionError("the tracker was not started");
    if (dirty.size() != blocks_.size())
        return absl::InvalidArgumentError("the page set has another number of RAM blocks");
    for (size_t i = 0; i < blocks_.size(); ++i)
        if (dirty[i].page_count() != blocks_[i].size / kPageBytes)
            return absl::InvalidArgumentError("a bitmap of the page set has another size");
    absl::Status first;
    for (size_t i = 0; i < blocks_.size(); ++i) {
        // What is armed anew was reported with it: scanning it in the same call would report it
        // twice, and harmlessly.
        first.Update(scan_block(blocks_[i], dirty[i]));
        first.Update(arm_new_data(blocks_[i], &dirty[i]));
    }
    // A scan of a process without memory finds nothing and says nothing.
    if (const absl::Status ended = process_ended(); !ended.ok()) {
        for (PageBitmap& bitmap : dirty) bitmap.set_range({0, bitmap.page_count()});
        return ended;
    }
    return annotate(first, "Cannot collect written pages");
}

absl::Status UffdWriteProtectTracker::arm_new_data(TrackedBlock& block, PageBitmap* dirty) {
    const ChunkIndex chunk_count = block.armed.page_count();
    for (ChunkIndex at = block.armed.next_clear(0); at < chunk_count;) {
        const ChunkIndex end = block.armed.next_set(at);
        GODWIT_RETURN_IF_ERROR(arm_new_data_in(block, {at, end}, dirty));
        if (end == chunk_count) break;
        at = block.armed.next_clear(end);
    }
    return absl::OkStatus();
}

// The extents are asked for twice: a page that was allocated and written between the first answer
// and the arming is in the second one.
absl::Status UffdWriteProtectTracker::arm_new_data_in(TrackedBlock& block, PageRange chunks,
                                                      PageBitmap* dirty) {
    struct Arming {
        UffdWriteProtectTracker& tracker;
        TrackedBlock& block;
        PageBitmap* dirty;
        ChunkIndex armed_until;
        absl::Status status;

        void operator()(PageRange pages) {
            const PageRange fresh{std::max(pages.begin / kPagesPerChunk, armed_until),
                                  (pages.end + kPagesPerChunk - 1) / kPagesPerChunk};
            if (!status.ok() || fresh.begin >= fresh.end) return;
            armed_until = fresh.end;
            status = tracker.arm_chunks(block, fresh);
            if (dirty == nullptr || !status.ok()) return;
            status = for_each_data_extent(block.file.get(), fresh.begin * kChunkBytes,
                                          fresh.end * kChunkBytes, [this](PageRange data) {
                                              dirty->set_range(data);
                                          });
            if (!status.ok())
                dirty->set_range({fresh.begin * kPagesPerChunk, fresh.end * kPagesPerChunk});
        }
    };
    Arming arming{*this, block, dirty, chunks.begin, {}};
    absl::Status status =
        for_each_data_extent(block.file.get(), chunks.begin * kChunkBytes, chunks.end * kChunkBytes,
                             [&arming](PageRange pages) { arming(pages); });
    status.Update(arming.status);
    if (!status.ok() && dirty != nullptr)
        dirty->set_range({chunks.begin * kPagesPerChunk, chunks.end * kPagesPerChunk});
    return status;
}

// In every mapping, or not at all: a chunk counts as armed only when it is so in each.
absl::Status UffdWriteProtectTracker::arm_chunks(TrackedBlock& block, PageRange chunks) {
    for (const RamMapping& mapping : block.mappings) {
        AddressRange rest =
            view_of(mapping, chunks.begin * kChunkBytes, chunks.end * kChunkBytes);
        for (; rest.begin < rest.end; rest.begin = next_step(rest).end)
            GODWIT_RETURN_IF_ERROR(write_protect(next_step(rest)));
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
    GODWIT_RETURN_IF_ERROR(process_ended());
    return errno_status(error_number, "UFFDIO_WRITEPROTECT");
}

absl::Status UffdWriteProtectTracker::scan_block(TrackedBlock& block, PageBitmap& dirty) {
    absl::Status first;
    const ChunkIndex chunk_count = block.armed.page_count();
    for (ChunkIndex at = block.armed.next_set(0); at < chunk_count;) {
        const ChunkIndex end = block.armed.next_clear(at);
        first.Update(scan_chunks(block, {at, end}, dirty));
        if (end == chunk_count) break;
        at = block.armed.next_set(end);
    }
    return first;
}

absl::Status UffdWriteProtectTracker::scan_chunks(const TrackedBlock& block, PageRange chunks,
                                                  PageBitmap& dirty) {
    absl::Status first;
    for (const RamMapping& mapping : block.mappings) {
        AddressRange rest =
            view_of(mapping, chunks.begin * kChunkBytes, chunks.end * kChunkBytes);
        for (; rest.begin < rest.end; rest.begin = next_step(rest).end)
            first.Update(scan_range(mapping, next_step(rest), dirty));
    }
    return first;
}

absl::Status UffdWriteProtectTracker::scan_range(const RamMapping& mapping, AddressRange range,
                                                 PageBitmap& dirty) {
    const absl::Status status = pagemap_.take_written(range, [&](AddressRange written) {
        dirty.set_range(pages_of(mapping, written));
    });
    if (status.ok()) return status;
    dirty.set_range(pages_of(mapping, range));
    // The pages that it did not come to are still marked as written and come with the next scan.
    return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status UffdWriteProtectTracker::process_ended() const {
    const auto alive = [this](const TrackedBlock& block) {
        return block.mappings.empty() || pagemap_.memory_exists(block.mappings.front().address);
    };
    if (std::all_of(blocks_.begin(), blocks_.end(), alive)) return absl::OkStatus();
    return absl::NotFoundError(fmt::format("process {} ended", pid_));
}

}  // namespace godwit
