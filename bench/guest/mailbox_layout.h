// The mailbox: one page in which the test guest says how it is. Shared by the guest kernel and the
// host, so standard layout only and nothing but 64-bit fields (each store and load is whole).
//
// It lies at guest-physical kMailboxAddress, which on q35 and pc is the same offset in the RAM
// file. The guest updates it in place; the host reads it with pread, never through a mapping: a
// read of a hole allocates nothing and wakes no userfaultfd.
#pragma once

#include <cstddef>
#include <cstdint>

namespace godwit {

inline constexpr uint64_t kMailboxAddress = 0x200000;
inline constexpr uint64_t kMailboxMagic = 0x786f626477646f67;  // "godwdbox" in memory
inline constexpr uint64_t kMailboxVersion = 1;
inline constexpr uint64_t kGuestPageBytes = 4096;
inline constexpr unsigned kMaxVcpus = 4;
inline constexpr unsigned kMaxRegions = 4;
inline constexpr uint64_t kNoPage = ~uint64_t{0};

//  booting ──▶ running          (working set filled, every vCPU in its loop)
//     ├──────▶ bad-config       (halted; `message` says which word)
//     └──────▶ crashed          (also from running: a CPU exception; `message` has vector and rip)
enum class GuestState : uint64_t {
    kNone = 0,
    kBooting = 1,
    kRunning = 2,
    kBadConfig = 3,
    kCrashed = 4
};

// What was wrong with a page of the working set (vCPU fields) or of the DMA pool (disk fields).
enum class GuestFault : uint64_t {
    kNone = 0,
    kChecksum = 1,     // the page does not add up: torn or changed by someone else
    kTag = 2,          // adds up, but is another page's content, or all zero
    kStale = 3,        // consistent, but older than the last write
    kNewer = 4,        // consistent, but newer than the counters kept elsewhere: those are stale
    kCounters = 5,     // the two copies of the expected counter disagree
    kLedger = 6,       // pages and both counters agree, but writes are missing from their total
    kDiskContent = 7,  // a DMA page is not what the disk holds at the sector it was read from
    kDiskRecord = 8,   // the two copies of "which sector was read here" disagree
    kDiskRequest = 9,  // the device failed a read
    kDiskRing = 10,    // the used ring names a request that is not in flight
    kDiskStuck = 11,   // no completion for 10 s of the guest's own running time
};

// One per vCPU, on cache lines of its own.
struct alignas(128) MailboxVcpu {
    uint64_t tick;            // +1 each turn of the loop (100 per second when idle)
    uint64_t writes;          // pages written since `running`
    uint64_t checked;         // pages checked, before writes and by the sweep
    uint64_t errors;          // checks that failed; the page is then written anew
    uint64_t first_bad_page;  // index in the working set, kNoPage: none
    uint64_t first_bad_kind;  // GuestFault
    uint64_t longest_pause_us;
    uint64_t pauses_us;  // total of the pauses over 200 us between two turns, by TSC
    uint64_t pause_count;
    uint64_t sweeps;      // times the whole share of this vCPU was swept
    uint64_t first_page;  // the share: working set pages [first_page, first_page + page_count)
    uint64_t page_count;
};

struct alignas(128) MailboxDisk {
    uint64_t present;  // 1: a disk is in use
    uint64_t reads;    // pages read and found right or wrong
    uint64_t checked;  // pages of the DMA pool checked again later
    uint64_t errors;
    uint64_t first_bad_page;  // index in the DMA pool, kNoPage: none
    uint64_t first_bad_kind;  // GuestFault
    uint64_t in_flight;
    uint64_t disk_pages;
    uint64_t pool_address;  // guest-physical
    uint64_t pool_pages;
};

struct MailboxRegion {
    uint64_t address;  // guest-physical
    uint64_t page_count;
};

struct Mailbox {
    uint64_t magic;
    uint64_t version;
    uint64_t state;  // GuestState
    uint64_t tsc_hz;
    uint64_t vcpu_count;
    uint64_t ws_pages;
    uint64_t low_ram_end;  // RAM at and above 4 GiB follows this offset in the RAM file
    uint64_t ram_end;      // guest-physical end of all RAM
    uint64_t entry_tsc;    // TSC at the kernel's entry
    uint64_t running_tsc;  // TSC when `running` was set
    uint64_t region_count;
    uint64_t counters_address;  // 32 bits per page of the working set: the expected write counter
    uint64_t inverted_address;  // the same, each inverted
    uint64_t reserved[3];
    MailboxRegion regions[kMaxRegions];  // working set page 0 is the first page of regions[0]
    uint64_t reserved2[8];
    MailboxVcpu vcpus[kMaxVcpus];
    MailboxDisk disk;
    char message[256];  // why it is bad-config or crashed, NUL-terminated
    uint64_t reserved3[320];
};

static_assert(sizeof(MailboxVcpu) == 128);
static_assert(sizeof(MailboxDisk) == 128);
static_assert(offsetof(Mailbox, state) == 16);
static_assert(offsetof(Mailbox, regions) == 128);
static_assert(offsetof(Mailbox, vcpus) == 256);
static_assert(offsetof(Mailbox, disk) == 768);
static_assert(offsetof(Mailbox, message) == 896);
static_assert(sizeof(Mailbox) <= kGuestPageBytes);

// Where a guest-physical address lies in the RAM file (q35 and pc, one memory backend).
inline constexpr uint64_t ram_file_offset(const Mailbox& mailbox, uint64_t address) {
    constexpr uint64_t kFourGiB = uint64_t{4} << 30;
    return address < kFourGiB ? address : address - kFourGiB + mailbox.low_ram_end;
}

// Guest-physical address of a page of the working set; kNoPage when there is no such page.
inline constexpr uint64_t ws_page_address(const Mailbox& mailbox, uint64_t index) {
    for (uint64_t i = 0; i < mailbox.region_count && i < kMaxRegions; ++i) {
        const MailboxRegion& region = mailbox.regions[i];
        if (index < region.page_count) return region.address + index * kGuestPageBytes;
        index -= region.page_count;
    }
    return kNoPage;
}

}  // namespace godwit
