#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"

#include <algorithm>
#include <utility>

#include "dirty-tracking/kvm/resident_guest_log.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<KvmDirtyLogTracker>> KvmDirtyLogTracker::create(
    pid_t pid, std::span<const RamBlock> blocks, std::span<const pid_t> vcpu_threads,
    const std::string& socket_path) {
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<ResidentGuestLog> guest,
                            ResidentGuestLog::connect(socket_path, pid, blocks));
    GODWIT_ASSIGN_OR_RETURN(std::vector<AddressRange> views, guest->views());
    GODWIT_ASSIGN_OR_RETURN(
        auto qemu,
        UffdWriteProtectTracker::create(
            pid, blocks, vcpu_threads,
            {.skim = true, .excluded_views = std::move(views), .views_are_witnesses = true}));
    std::vector<uint64_t> page_counts;
    for (const RamBlock& block : blocks) page_counts.push_back(block.page_count());
    return std::make_unique<KvmDirtyLogTracker>(std::move(guest), std::move(qemu), page_counts);
}

namespace {

// The resident reports a discard as whole chunks. It may have wiped out view B's trace of a page
// that a disk is writing: such chunks are read again after the next drain.
void add_whole_chunks(PageSet& unsettled, const PageSet& logged) {
    constexpr size_t kWords = kPagesPerChunk / 64;
    const auto is_full = [](uint64_t word) { return word == ~uint64_t{0}; };
    for (size_t i = 0; i < logged.size(); ++i) {
        const std::span<const uint64_t> words = std::as_const(logged[i]).words();
        for (size_t first = 0; first + kWords <= words.size(); first += kWords) {
            const auto chunk = words.subspan(first, kWords);
            if (std::all_of(chunk.begin(), chunk.end(), is_full))
                unsettled[i].set_range({first * 64, first * 64 + kPagesPerChunk});
        }
    }
}

}  // namespace

KvmDirtyLogTracker::KvmDirtyLogTracker(std::unique_ptr<GuestLog> guest,
                                       std::unique_ptr<UffdWriteProtectTracker> qemu,
                                       std::span<const uint64_t> page_counts)
    : guest_(std::move(guest)), qemu_(std::move(qemu)) {
    for (const uint64_t page_count : page_counts) {
        windows_.push_back(std::make_unique<ClearWindows>(page_count));
        logged_.emplace_back(page_count);
    }
}

absl::Status KvmDirtyLogTracker::start() {
    GODWIT_ASSIGN_OR_RETURN(std::vector<AddressRange> views, guest_->views());
    GODWIT_ASSIGN_OR_RETURN(warnings_, guest_->warnings());
    qemu_->exclude_views(std::move(views));
    absl::Status status = qemu_->start();
    if (status.ok()) status = guest_->start();
    if (!status.ok()) {
        (void)stop();
        return status;
    }
    for (const auto& windows : windows_) windows->all_armed();
    return absl::OkStatus();
}

absl::Status KvmDirtyLogTracker::collect(PageSet& dirty, PageSet& unsettled) {
    // QEMU's part first: it knows whether the sets have the right shape.
    GODWIT_RETURN_IF_ERROR(qemu_->collect(dirty, unsettled));
    clear_pages(logged_);
    const absl::Status status = guest_->collect(logged_);
    for (size_t i = 0; i < windows_.size(); ++i) windows_[i]->reset(logged_[i].count());
    if (!status.ok()) return annotate(status, "Cannot collect what the vCPUs wrote");
    add_pages(dirty, logged_);
    add_whole_chunks(unsettled, logged_);
    return absl::OkStatus();
}

absl::Status KvmDirtyLogTracker::rearm(BlockIndex block, PageRange range) {
    return windows_[block]->ensure(range,
                                   [&](PageRange window) { return guest_->rearm(block, window); });
}

absl::Status KvmDirtyLogTracker::stop() {
    absl::Status status = guest_->stop();
    status.Update(qemu_->stop());
    return status;
}

}  // namespace godwit
