// PCI configuration space by ports 0xcf8/0xcfc: the first 256 bytes of each function.
#pragma once

#include <cstdint>

namespace godwit::guest {

class PciFunction {
  public:
    PciFunction() = default;
    PciFunction(unsigned bus, unsigned device, unsigned function)
        : address_(0x80000000u | bus << 16 | device << 11 | function << 8) {}

    [[nodiscard]] uint32_t read32(unsigned offset) const;
    [[nodiscard]] uint16_t read16(unsigned offset) const;
    [[nodiscard]] uint8_t read8(unsigned offset) const;
    void write32(unsigned offset, uint32_t value) const;

    // Turns on memory decoding and bus mastering.
    void enable() const;
    // Address of a memory BAR, given one now if the firmware left it unset; 0 for an I/O BAR.
    // Before enable().
    [[nodiscard]] uint64_t memory_bar(unsigned index) const;
    // Configuration offset of the first (next after `previous`) capability, 0: none.
    [[nodiscard]] unsigned next_capability(unsigned previous) const;

  private:
    uint32_t address_ = 0;
};

// The first function with this vendor and one of two device ids, on bus 0 or behind bridges.
bool find_pci_function(uint16_t vendor, uint16_t id, uint16_t other_id, PciFunction& found);

}  // namespace godwit::guest
