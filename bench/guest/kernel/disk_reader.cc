#include "bench/guest/kernel/disk_reader.h"

#include "bench/guest/disk_format.h"
#include "bench/guest/kernel/cpu.h"

namespace godwit::guest {
namespace {

constexpr uint64_t kStuckAfterSeconds = 10;
// Distance between consecutive reads: prime, so that every page of the disk has its turn and two
// pages that follow each other in the pool come from far apart.
constexpr uint64_t kStride = 7919;

}  // namespace

bool DiskReader::start(const Config& config, MemoryMap& memory, Mailbox& mailbox, Line& problem) {
    mailbox_ = &mailbox.disk;
    mailbox_->first_bad_page = kNoPage;
    if (config.disk == DiskUse::kOff || (config.disk == DiskUse::kAuto && config.idle)) return true;
    const bool needed = config.disk == DiskUse::kOn;
    switch (disk_.start(memory)) {
        case DiskStart::kReady:
            break;
        case DiskStart::kNone:
            problem.text("no virtio-blk disk found");
            return !needed;
        case DiskStart::kUnusable:
            problem.text("the virtio-blk disk is not usable: virtio 1.0 is needed");
            return !needed;
    }
    pool_pages_ = config.dma_bytes / kGuestPageBytes;
    pool_ = memory.allocate(config.dma_bytes);
    records_.source = reinterpret_cast<uint32_t*>(memory.allocate(pool_pages_ * 4));
    records_.inverted = reinterpret_cast<uint32_t*>(memory.allocate(pool_pages_ * 4));
    if (pool_ == 0 || records_.source == nullptr || records_.inverted == nullptr) {
        problem.text("dma= does not fit below 4 GiB");
        return false;
    }
    for (uint64_t i = 0; i < pool_pages_; ++i) record(i, kEmpty);
    if (!read_header(problem)) return !needed;
    depth_ = static_cast<unsigned>(config.disk_depth);
    flat_out_ = config.disk_rate == kFlatOut;
    disk_rate_ = config.disk_rate;
    mailbox_->present = 1;
    mailbox_->disk_pages = disk_pages_;
    mailbox_->pool_address = pool_;
    mailbox_->pool_pages = pool_pages_;
    active_ = true;
    return true;
}

bool DiskReader::read_header(Line& problem) {
    disk_.submit(0, 0, pool_);
    uint64_t slot = 0;
    bool ok = false;
    while (!disk_.complete(slot, ok)) cpu_pause();
    const uint64_t* words = words_at(pool_);
    disk_seed_ = words[kDiskSeedWord];
    disk_pages_ = words[kDiskSectorCountWord] / kSectorsPerPage;
    if (ok && words[kDiskMagicWord] == kDiskMagic && disk_pages_ >= 2 && disk_pages_ < kEmpty &&
        disk_pages_ <= disk_.sector_count() / kSectorsPerPage)
        return true;
    problem.text("the virtio-blk disk is no image made by guest-disk: left alone");
    return false;
}

void DiskReader::start_pace(uint64_t tsc_hz, uint64_t now) {
    tsc_hz_ = tsc_hz;
    last_step_ = now;
    pacer_.start(disk_rate_, tsc_hz, now);
}

uint64_t* DiskReader::pool_page(uint64_t index) const {
    return words_at(pool_ + index * kGuestPageBytes);
}

bool DiskReader::holds(uint64_t index, uint32_t disk_page) const {
    const uint64_t* words = pool_page(index);
    const uint64_t first_sector = uint64_t{disk_page} * kSectorsPerPage;
    uint64_t difference = 0;
    for (unsigned sector = 0; sector < kSectorsPerPage; ++sector)
        for (unsigned i = 0; i < kWordsPerSector; ++i)
            difference |= *words++ ^ disk_word(disk_seed_, first_sector + sector, i);
    return difference == 0;
}

void DiskReader::record(uint64_t index, uint32_t disk_page) {
    records_.source[index] = disk_page;
    records_.inverted[index] = ~disk_page;
}

void DiskReader::report(uint64_t index, GuestFault fault) {
    if (mailbox_->errors == 0) {
        mailbox_->first_bad_page = index;
        mailbox_->first_bad_kind = static_cast<uint64_t>(fault);
    }
    compiler_barrier();
    ++mailbox_->errors;
}

void DiskReader::step(uint64_t now) {
    finish_reads(now);
    unsigned due = flat_out_ ? depth_ : pacer_.take(now, depth_);
    for (unsigned slot = 0; slot < depth_ && due > 0; ++slot) {
        if (requests_[slot].in_flight) continue;
        start_read(slot);
        --due;
    }
    sweep_one();
    mailbox_->in_flight = in_flight_;
}

void DiskReader::finish_reads(uint64_t now) {
    uint64_t slot = 0;
    bool ok = false;
    bool any = false;
    while (disk_.complete(slot, ok)) {
        any = true;
        if (slot >= depth_ || !requests_[slot].in_flight) {
            report(kNoPage, GuestFault::kDiskRing);
            continue;
        }
        Request& request = requests_[slot];
        request.in_flight = false;
        --in_flight_;
        if (!ok) {
            report(request.pool_page, GuestFault::kDiskRequest);
            continue;
        }
        if (holds(request.pool_page, request.disk_page))
            record(request.pool_page, request.disk_page);
        else
            report(request.pool_page, GuestFault::kDiskContent);
        ++mailbox_->reads;
    }
    if (any || in_flight_ == 0) waited_ = 0;
    watch_for_stall(now);
}

void DiskReader::watch_for_stall(uint64_t now) {
    const uint64_t gap = now - last_step_;
    const uint64_t longest = tsc_hz_ / 1000;
    last_step_ = now;
    waited_ += gap < longest ? gap : longest;
    if (waited_ < kStuckAfterSeconds * tsc_hz_) return;
    report(kNoPage, GuestFault::kDiskStuck);
    waited_ = 0;
}

void DiskReader::start_read(unsigned slot) {
    // Pages are reused in turn; one whose read is still in flight keeps its turn.
    const uint64_t target = next_pool_page_;
    for (const Request& request : requests_)
        if (request.in_flight && request.pool_page == target) return;
    next_pool_page_ = (next_pool_page_ + 1) % pool_pages_;
    next_disk_page_ = (next_disk_page_ + kStride) % (disk_pages_ - 1);
    const auto disk_page = static_cast<uint32_t>(next_disk_page_ + 1);  // page 0 is the header
    record(target, kEmpty);
    requests_[slot] = {true, target, disk_page};
    ++in_flight_;
    disk_.submit(slot, uint64_t{disk_page} * kSectorsPerPage, pool_ + target * kGuestPageBytes);
}

void DiskReader::sweep_one() {
    const uint64_t index = sweep_cursor_;
    sweep_cursor_ = (sweep_cursor_ + 1) % pool_pages_;
    const uint32_t source = records_.source[index];
    if (source != ~records_.inverted[index]) {
        report(index, GuestFault::kDiskRecord);
        record(index, kEmpty);
        return;
    }
    if (source == kEmpty) return;
    ++mailbox_->checked;
    if (holds(index, source)) return;
    report(index, GuestFault::kDiskContent);
    record(index, kEmpty);
}

}  // namespace godwit::guest
