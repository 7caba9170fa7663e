// UffdWriteProtectTracker: dirty tracking from outside, of every writer of QEMU's mappings.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"
#include "dirty-tracking/writeprotect/huge_page_events.h"
#include "dirty-tracking/writeprotect/pagemap_scan.h"
#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/clock.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/ram_block.h"
#include "engine/base/unique_fd.h"

namespace godwit {

struct WriteProtectOptions {
    // Leave pages alone that nobody has mapped yet, in RAM that can't be swapped out: for a view
    // that is seldom written through. See "Skimming" below.
    bool skim = false;
    // Mappings that begin in one of these are not tracked: somebody else sees who writes there.
    std::vector<AddressRange> excluded_views;
    // These keep huge pages as they are: witnesses for "Skimming" below.
    bool views_are_witnesses = false;
    // System calls' answers, in runs of pages.
    size_t region_limit = PagemapScan::kRegionLimit;
    // A seam for tests; empty: HugePageEvents of this host.
    std::function<absl::StatusOr<uint64_t>()> huge_page_events;
};

// userfaultfd's asynchronous write-protect with PAGEMAP_SCAN (kernel 6.7): vCPUs under KVM and
// TCG, and QEMU's own threads. The userfaultfd comes by attach.
//
// Only chunks (2 MiB) that hold data are armed, and collect() asks the file for new ones: a sparse
// guest costs what it uses. A written hugetlb page is 512 pages. Not reported: a discard (it writes
// zeros into the file, through no mapping), and the end of a DMA write to a page that was pinned
// before (DESIGN: unsettled pages). A mapping of the file that appears after start() is not
// tracked until the next start().
//
// Skimming (an option; a quarter of the time of a scan where little is mapped, and no page tables
// of marks: 2 MiB per GiB). A chunk is not armed until a collect() finds a page written there;
// until then only mapped pages are protected and looked at. On huge tmpfs the first write reports
// the whole chunk (what maps 2 MiB at once is written at once), on 4 KiB tmpfs all that is mapped
// of it; from then on it is exact to the page. A discard beside a page that was written takes its
// trace away on huge tmpfs: who discards must report the chunk.
//
// So does the kernel when it splits or collapses huge pages. When it has done so anywhere on the
// host, a collect() must know which chunks it may have been: those that no witness maps by 2 MiB.
// It reports everything in them and arms them. Witnesses are the excluded views where whoever made
// them keeps the kernel from mapping, or collapsing, by 2 MiB anew (MADV_NOHUGEPAGE on all views,
// as the resident does while it logs): what is mapped so still was never unmapped. Without a
// witness, after one event, the block is not skimmed any more until the next start(); where few
// chunks have one from the start, it is not skimmed at all. Two gaps are left: a collapse that
// began before start() and ends after its pages were read; and a split that is under way during the
// last collect() of a frozen guest, of a huge page that was written through this view for the first
// time since the collect() before. hugetlb pages are neither split nor collapsed; nor are small
// pages of a mount without huge ones, once nobody may collapse them: both are skimmed throughout.
//
// collect() allocates no memory. Threads: as DirtyTracker; rearm() does nothing.
class UffdWriteProtectTracker final : public DirtyTracker {
  public:
    // Attaches to the process. `blocks` are only used during the call. Errors: those of
    // attach_userfaultfd() and find_ram_mappings().
    static absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> create(
        pid_t pid, std::span<const RamBlock> blocks, std::span<const pid_t> vcpu_threads,
        WriteProtectOptions options = {});

    // With a userfaultfd that the process has made already (attach, resident, a test).
    static absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> create_with(
        pid_t pid, std::span<const RamBlock> blocks, UniqueFd userfaultfd,
        WriteProtectOptions options = {});

    // Disarms, if the process still exists.
    ~UffdWriteProtectTracker() override;
    UffdWriteProtectTracker(const UffdWriteProtectTracker&) = delete;
    UffdWriteProtectTracker& operator=(const UffdWriteProtectTracker&) = delete;

    [[nodiscard]] std::string_view name() const override { return "uffd-wp"; }

    // From the next start() on.
    void exclude_views(std::vector<AddressRange> views) {
        options_.excluded_views = std::move(views);
    }

    // Looks for the mappings again, registers them anew (whatever an earlier agent left) and arms
    // every chunk with data. Errors: NotFound when the process ended; FailedPrecondition when the
    // mappings are not what they must be or another userfaultfd has them. After an error nothing
    // is armed.
    absl::Status start() override;

    // The same pages are added to both sets: any of them may be the target of DMA under way.
    // Errors: InvalidArgument when a set has another shape; FailedPrecondition before start()
    // and when the memory is not registered any more; NotFound when the process ended. After the
    // last two every page of a block that could not be scanned is in `dirty`.
    absl::Status collect(PageSet& dirty, PageSet& unsettled) override;

    absl::Status rearm(BlockIndex block, PageRange range) override;

    // Unregisters every mapping. Success when the process has ended: nothing is armed then.
    absl::Status stop() override;

    // How long attach held a thread of the target; 0 when it adopted an earlier userfaultfd.
    [[nodiscard]] Duration attach_hold() const { return attach_hold_; }
    // Whether chunks are still left alone in every block where that was allowed.
    [[nodiscard]] bool skims() const;
    // Its userfaultfd, for post-copy on the same host or another tracker; stays ours.
    [[nodiscard]] int userfaultfd() const { return userfaultfd_.get(); }

  private:
    struct TrackedBlock {
        std::string name;
        UniqueFd file;
        dev_t device = 0;
        ino_t inode = 0;
        Bytes size = 0;
        Backing backing = Backing::kTmpfs4k;
        PageBitmap armed;    // one bit per chunk
        PageBitmap touched;  // of a collect(): written for the first time
        bool may_skim = false;
        bool skimmed = false;
        std::vector<RamMapping> mappings;
        std::vector<RamMapping> excluded;   // views that are somebody else's
        std::vector<RamMapping> witnesses;  // the same, where they are some
        size_t registered_count = 0;        // of `mappings`, from the first
    };

    // One block's part of the two sets of collect().
    struct Found {
        PageBitmap& dirty;
        PageBitmap& unsettled;
        void add(PageRange range) const;
        void add_all() const { add({0, dirty.page_count()}); }
    };

    UffdWriteProtectTracker(pid_t pid, UniqueFd userfaultfd, PagemapScan pagemap,
                            WriteProtectOptions options);

    absl::Status find_mappings();
    absl::Status register_mappings();
    absl::Status register_mapping(const TrackedBlock& block, const RamMapping& mapping) const;
    absl::Status unregister_mapping(const TrackedBlock& block, const RamMapping& mapping) const;
    [[nodiscard]] absl::Status check_shape(const PageSet& set) const;
    // Arms the chunks that hold data and are not armed; with `found`, reports what they hold.
    absl::Status arm_new_data(TrackedBlock& block, const Found* found);
    static absl::StatusOr<ChunkIndex> next_chunk_with_data(const TrackedBlock& block,
                                                           ChunkIndex from);
    static absl::StatusOr<PageIndex> next_data_page(const TrackedBlock& block, PageIndex from);
    static absl::Status report_data(const TrackedBlock& block, PageRange chunks,
                                    const Found& found);
    absl::Status arm_chunks(TrackedBlock& block, PageRange chunks);
    absl::Status write_protect(AddressRange range);
    absl::Status scan_block(TrackedBlock& block, const Found& found);
    absl::Status scan_chunks(const TrackedBlock& block, PageRange chunks, const Found& found);
    absl::Status scan_range(const RamMapping& mapping, AddressRange range, const Found& found);
    // Skimming:
    absl::Status begin_skimming();
    // Reports and arms what the kernel may have dropped the traces of.
    absl::Status check_huge_pages(PageSet& dirty, PageSet& unsettled);
    absl::Status suspect_chunks(TrackedBlock& block, const Found& found);
    // Into block.touched: chunks that are not armed and that no witness maps as a whole.
    void find_suspects(TrackedBlock& block);
    // Whether one event would make much of the block's data suspect, perhaps in the pause.
    absl::StatusOr<bool> has_few_witnesses(TrackedBlock& block);
    absl::Status skim_block(TrackedBlock& block, const Found& found);
    // Visits the mapped written pages of chunks that are not armed and protects them again.
    absl::Status skim(TrackedBlock& block, const std::function<void(PageRange)>& visit);
    absl::Status arm_touched(TrackedBlock& block, const Found& found);
    // NotFound when the process has no memory any more.
    [[nodiscard]] absl::Status check_process() const;
    // Whether the block's mappings are still the ones that were registered.
    [[nodiscard]] absl::Status check_mappings(const TrackedBlock& block) const;

    pid_t pid_;
    UniqueFd userfaultfd_;
    PagemapScan pagemap_;
    WriteProtectOptions options_;
    uint64_t huge_page_events_ = 0;
    std::vector<TrackedBlock> blocks_;
    Duration attach_hold_{};
    bool left_by_others_ = true;  // an earlier agent may have registered the mappings
    bool started_ = false;
};

}  // namespace godwit
