// A virtio-blk disk, driven by polling: virtio 1.0 over PCI (Virtual I/O Device specification 1.1,
// sections 2.6 split virtqueues, 4.1 PCI, 5.2 block device). Transitional devices are driven in
// their modern mode. One queue, a fixed number of one-page read requests.
#pragma once

#include <cstdint>

#include "bench/guest/kernel/memory_map.h"

namespace godwit::guest {

enum class DiskStart { kReady, kNone, kUnusable };

class VirtioBlk {
  public:
    static constexpr unsigned kMaxRequests = 32;

    // Finds the first disk and sets it up. kNone: there is none. kUnusable: it is not modern, or
    // refused its setup.
    DiskStart start(MemoryMap& memory);
    // Starts reading the page at `sector` into guest memory at `address`; `slot` < kMaxRequests
    // must be free.
    void submit(unsigned slot, uint64_t sector, uint64_t address);
    // Takes one completion. Returns false when there is none. `slot` is what the device said, so it
    // may be anything; `ok` is false when the device failed the request.
    bool complete(uint64_t& slot, bool& ok);

    [[nodiscard]] uint64_t sector_count() const { return sector_count_; }

  private:
    struct Descriptor {
        uint64_t address;
        uint32_t size;
        uint16_t flags;
        uint16_t next;
    };
    struct Header {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    };
    static constexpr unsigned kDescriptorsPerRequest = 3;
    static constexpr uint16_t kQueueSize = 128;  // a power of two >= 3 * kMaxRequests

    bool find_registers(MemoryMap& memory, const class PciFunction& function);
    bool negotiate();
    bool set_up_queue(MemoryMap& memory);

    uint64_t common_ = 0;  // addresses of the register blocks
    uint64_t device_ = 0;
    uint64_t notify_base_ = 0;
    uint32_t notify_multiplier_ = 0;
    uint64_t notify_ = 0;

    Descriptor* descriptors_ = nullptr;
    volatile uint16_t* available_ = nullptr;  // flags, index, ring
    uint64_t used_ = 0;                       // flags, index, ring of {id, size}
    Header* headers_ = nullptr;
    volatile uint8_t* status_ = nullptr;
    uint16_t next_available_ = 0;
    uint16_t next_used_ = 0;
    uint64_t sector_count_ = 0;
};

}  // namespace godwit::guest
