#include "bench/guest/kernel/pci.h"

#include "bench/guest/kernel/cpu.h"

namespace godwit::guest {
namespace {

constexpr uint16_t kAddressPort = 0xcf8;
constexpr uint16_t kDataPort = 0xcfc;

constexpr unsigned kCommand = 0x04;
constexpr unsigned kStatus = 0x06;
constexpr unsigned kHeaderType = 0x0e;
constexpr unsigned kFirstBar = 0x10;
constexpr unsigned kSecondaryBus = 0x19;
constexpr unsigned kCapabilities = 0x34;
constexpr uint16_t kHasCapabilities = 1u << 4;
constexpr uint8_t kMultiFunction = 0x80;
constexpr uint8_t kBridge = 1;
// Neither RAM nor registers of the chipset are here, on q35 and pc alike.
constexpr uint32_t kFreeWindow = 0xf0000000;
constexpr uint32_t kFreeWindowBytes = 16u << 20;
uint32_t next_free_address = kFreeWindow;

constexpr unsigned kMaxDepth = 4;  // of bridges behind bridges

bool search_bus(unsigned bus, unsigned depth, uint16_t vendor, uint16_t id, uint16_t other_id,
                PciFunction& found) {
    for (unsigned device = 0; device < 32; ++device) {
        for (unsigned number = 0; number < 8; ++number) {
            const PciFunction function(bus, device, number);
            const uint32_t ids = function.read32(0);
            if (ids == ~0u) {
                if (number == 0) break;
                continue;
            }
            if ((ids & 0xffff) == vendor && (ids >> 16 == id || ids >> 16 == other_id)) {
                found = function;
                return true;
            }
            const uint8_t type = function.read8(kHeaderType);
            const unsigned behind = function.read8(kSecondaryBus);
            if ((type & ~kMultiFunction) == kBridge && behind > bus && depth < kMaxDepth &&
                search_bus(behind, depth + 1, vendor, id, other_id, found))
                return true;
            if (number == 0 && (type & kMultiFunction) == 0) break;
        }
    }
    return false;
}

}  // namespace

uint32_t PciFunction::read32(unsigned offset) const {
    out32(kAddressPort, address_ | (offset & 0xfc));
    return in32(kDataPort);
}

uint16_t PciFunction::read16(unsigned offset) const {
    return static_cast<uint16_t>(read32(offset) >> (offset & 2) * 8);
}

uint8_t PciFunction::read8(unsigned offset) const {
    return static_cast<uint8_t>(read32(offset) >> (offset & 3) * 8);
}

void PciFunction::write32(unsigned offset, uint32_t value) const {
    out32(kAddressPort, address_ | (offset & 0xfc));
    out32(kDataPort, value);
}

void PciFunction::enable() const {
    // The upper half, status, has bits that writing 1 clears.
    write32(kCommand, (read32(kCommand) & 0xffff) | 0x6);
}

uint64_t PciFunction::memory_bar(unsigned index) const {
    const unsigned offset = kFirstBar + 4 * index;
    const uint32_t low = read32(offset);
    if ((low & 1) != 0) return 0;
    uint64_t address = low & ~0xfu;
    const bool is_64_bit = (low & 0x6) == 0x4;
    if (is_64_bit) address |= uint64_t{read32(offset + 4)} << 32;
    if (address != 0) return address;
    // Unset: the firmware leaves that to the system (qboot).
    write32(offset, ~0u);
    const uint32_t size = ~(read32(offset) & ~0xfu) + 1;
    if (size == 0 || size > kFreeWindowBytes) return 0;
    const uint32_t chosen = (next_free_address + size - 1) / size * size;
    next_free_address = chosen + size;
    write32(offset, chosen);
    if (is_64_bit) write32(offset + 4, 0);
    return chosen;
}

unsigned PciFunction::next_capability(unsigned previous) const {
    if (previous != 0) return read8(previous + 1) & 0xfc;
    if ((read16(kStatus) & kHasCapabilities) == 0) return 0;
    return read8(kCapabilities) & 0xfc;
}

bool find_pci_function(uint16_t vendor, uint16_t id, uint16_t other_id, PciFunction& found) {
    return search_bus(0, 0, vendor, id, other_id, found);
}

}  // namespace godwit::guest
