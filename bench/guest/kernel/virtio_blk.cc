#include "bench/guest/kernel/virtio_blk.h"

#include "bench/guest/disk_format.h"
#include "bench/guest/kernel/cpu.h"
#include "bench/guest/kernel/pci.h"

namespace godwit::guest {
namespace {

constexpr uint16_t kVendor = 0x1af4;
constexpr uint16_t kTransitionalBlk = 0x1001;
constexpr uint16_t kModernBlk = 0x1042;
constexpr uint8_t kVendorCapability = 0x09;

enum Structure : uint8_t { kCommonConfig = 1, kNotifyConfig = 2, kDeviceConfig = 4 };

// Offsets in the common configuration.
constexpr unsigned kDriverFeatureSelect = 0x08;
constexpr unsigned kDriverFeature = 0x0c;
constexpr unsigned kDeviceStatus = 0x14;
constexpr unsigned kQueueSelect = 0x16;
constexpr unsigned kQueueSizeRegister = 0x18;
constexpr unsigned kQueueEnable = 0x1c;
constexpr unsigned kQueueNotifyOffset = 0x1e;
constexpr unsigned kQueueDescriptors = 0x20;
constexpr unsigned kQueueAvailable = 0x28;
constexpr unsigned kQueueUsed = 0x30;

constexpr uint8_t kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8;
constexpr uint32_t kVersion1 = 1;  // feature bit 32

constexpr uint16_t kNext = 1, kDeviceWrites = 2;
constexpr uint16_t kNoInterrupt = 1;
constexpr uint32_t kRead = 0;
constexpr uint8_t kStatusOk = 0, kStatusPending = 0xff;

uint64_t address_of(const volatile void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

void write_queue_address(uint64_t at, uint64_t value) {
    mmio_write<uint32_t>(at, static_cast<uint32_t>(value));
    mmio_write<uint32_t>(at + 4, static_cast<uint32_t>(value >> 32));
}

}  // namespace

DiskStart VirtioBlk::start(MemoryMap& memory) {
    PciFunction function;
    if (!find_pci_function(kVendor, kTransitionalBlk, kModernBlk, function))
        return DiskStart::kNone;
    if (!find_registers(memory, function)) return DiskStart::kUnusable;
    function.enable();
    if (!negotiate() || !set_up_queue(memory)) return DiskStart::kUnusable;
    mmio_write<uint8_t>(common_ + kDeviceStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    sector_count_ = mmio_read<uint32_t>(device_) | uint64_t{mmio_read<uint32_t>(device_ + 4)} << 32;
    return DiskStart::kReady;
}

bool VirtioBlk::find_registers(MemoryMap& memory, const PciFunction& function) {
    for (unsigned at = function.next_capability(0); at != 0; at = function.next_capability(at)) {
        if (function.read8(at) != kVendorCapability) continue;
        const uint64_t bar = function.memory_bar(function.read8(at + 4));
        if (bar == 0) continue;
        const uint64_t address = bar + function.read32(at + 8);
        const uint64_t size = function.read32(at + 12);
        uint64_t* block = nullptr;
        switch (function.read8(at + 3)) {
            case kCommonConfig:
                block = &common_;
                break;
            case kDeviceConfig:
                block = &device_;
                break;
            case kNotifyConfig:
                block = &notify_base_;
                notify_multiplier_ = function.read32(at + 16);
                break;
            default:
                continue;
        }
        if (address + size > kFourGiB && !memory.map(address, address + size)) return false;
        *block = address;
    }
    return common_ != 0 && device_ != 0 && notify_base_ != 0;
}

bool VirtioBlk::negotiate() {
    mmio_write<uint8_t>(common_ + kDeviceStatus, 0);
    while (mmio_read<uint8_t>(common_ + kDeviceStatus) != 0) cpu_pause();
    mmio_write<uint8_t>(common_ + kDeviceStatus, kAcknowledge | kDriver);
    mmio_write<uint32_t>(common_ + kDriverFeatureSelect, 0);
    mmio_write<uint32_t>(common_ + kDriverFeature, 0);
    mmio_write<uint32_t>(common_ + kDriverFeatureSelect, 1);
    mmio_write<uint32_t>(common_ + kDriverFeature, kVersion1);
    mmio_write<uint8_t>(common_ + kDeviceStatus, kAcknowledge | kDriver | kFeaturesOk);
    return (mmio_read<uint8_t>(common_ + kDeviceStatus) & kFeaturesOk) != 0;
}

bool VirtioBlk::set_up_queue(MemoryMap& memory) {
    mmio_write<uint16_t>(common_ + kQueueSelect, 0);
    if (mmio_read<uint16_t>(common_ + kQueueSizeRegister) < kQueueSize) return false;
    const uint64_t rings = memory.allocate(2 * kGuestPageBytes);
    const uint64_t requests = memory.allocate(kGuestPageBytes);
    if (rings == 0 || requests == 0) return false;
    // One page: descriptors (2 KiB) and the available ring; the next page: the used ring.
    descriptors_ = reinterpret_cast<Descriptor*>(rings);
    available_ = reinterpret_cast<volatile uint16_t*>(rings + kQueueSize * sizeof(Descriptor));
    used_ = rings + kGuestPageBytes;
    headers_ = reinterpret_cast<Header*>(requests);
    status_ = reinterpret_cast<volatile uint8_t*>(requests + 2048);
    available_[0] = kNoInterrupt;

    mmio_write<uint16_t>(common_ + kQueueSizeRegister, kQueueSize);
    write_queue_address(common_ + kQueueDescriptors, rings);
    write_queue_address(common_ + kQueueAvailable, address_of(available_));
    write_queue_address(common_ + kQueueUsed, used_);
    const uint64_t offset = mmio_read<uint16_t>(common_ + kQueueNotifyOffset);
    notify_ = notify_base_ + offset * notify_multiplier_;
    mmio_write<uint16_t>(common_ + kQueueEnable, 1);
    return true;
}

void VirtioBlk::submit(unsigned slot, uint64_t sector, uint64_t address) {
    const auto first = static_cast<uint16_t>(slot * kDescriptorsPerRequest);
    headers_[slot] = {kRead, 0, sector};
    status_[slot] = kStatusPending;
    descriptors_[first] = {address_of(&headers_[slot]), sizeof(Header), kNext,
                           static_cast<uint16_t>(first + 1)};
    descriptors_[first + 1] = {address, kGuestPageBytes, kNext | kDeviceWrites,
                               static_cast<uint16_t>(first + 2)};
    descriptors_[first + 2] = {address_of(&status_[slot]), 1, kDeviceWrites, 0};
    available_[2 + next_available_ % kQueueSize] = first;
    compiler_barrier();  // x86 keeps stores in order
    available_[1] = ++next_available_;
    asm volatile("mfence" ::: "memory");
    mmio_write<uint16_t>(notify_, 0);
}

bool VirtioBlk::complete(uint64_t& slot, bool& ok) {
    if (mmio_read<uint16_t>(used_ + 2) == next_used_) return false;
    compiler_barrier();
    const uint32_t id = mmio_read<uint32_t>(used_ + 4 + next_used_ % kQueueSize * 8u);
    ++next_used_;
    slot = id / kDescriptorsPerRequest;
    ok = id % kDescriptorsPerRequest == 0 && slot < kMaxRequests && status_[slot] == kStatusOk;
    return true;
}

}  // namespace godwit::guest
