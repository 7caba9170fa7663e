// Reads pages of a guest-disk image by DMA, checks each on arrival, and checks the pages that stay
// in the pool again and again: memory that no vCPU wrote, which a migration must carry all the
// same.
#pragma once

#include <cstdint>

#include "bench/guest/kernel/config.h"
#include "bench/guest/kernel/text.h"
#include "bench/guest/kernel/tsc.h"
#include "bench/guest/kernel/virtio_blk.h"
#include "bench/guest/mailbox_layout.h"

namespace godwit::guest {

class DiskReader {
  public:
    // False when the disk that config asks for cannot be used; `problem` says why. With disk=auto a
    // missing or foreign disk is no failure: active() is then false.
    bool start(const Config& config, MemoryMap& memory, Mailbox& mailbox, Line& problem);
    void start_pace(uint64_t tsc_hz, uint64_t now);
    // Takes completions, starts what is due, checks one resident page; tells the mailbox.
    void step(uint64_t now);
    [[nodiscard]] bool active() const { return active_; }

  private:
    // Which disk page a pool page was last filled from; kept twice, the second inverted.
    struct Records {
        uint32_t* source = nullptr;
        uint32_t* inverted = nullptr;
    };
    struct Request {
        bool in_flight = false;
        uint64_t pool_page = 0;
        uint32_t disk_page = 0;
    };
    static constexpr uint32_t kEmpty = ~0u;  // never read, or being read now

    bool read_header(Line& problem);
    void finish_reads(uint64_t now);
    void start_read(unsigned slot);
    void sweep_one();
    void watch_for_stall(uint64_t now);
    [[nodiscard]] uint64_t* pool_page(uint64_t index) const;
    [[nodiscard]] bool holds(uint64_t index, uint32_t disk_page) const;
    void record(uint64_t index, uint32_t disk_page);
    void report(uint64_t index, GuestFault fault);

    bool active_ = false;
    VirtioBlk disk_;
    Records records_;
    Request requests_[VirtioBlk::kMaxRequests];
    MailboxDisk* mailbox_ = nullptr;
    Pacer pacer_;
    bool flat_out_ = true;
    uint64_t disk_rate_ = 0;
    unsigned depth_ = 0;
    uint64_t tsc_hz_ = 0;
    uint64_t disk_seed_ = 0;
    uint64_t disk_pages_ = 0;
    uint64_t pool_ = 0;
    uint64_t pool_pages_ = 0;
    uint64_t next_pool_page_ = 0;
    uint64_t next_disk_page_ = 0;
    uint64_t sweep_cursor_ = 0;
    uint64_t in_flight_ = 0;
    uint64_t last_step_ = 0;
    uint64_t waited_ = 0;  // TSC ticks since the last completion, long pauses left out
};

}  // namespace godwit::guest
