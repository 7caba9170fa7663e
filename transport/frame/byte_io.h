// ByteReader, ByteWriter: little-endian fields in a buffer, never outside it.
//
// Both remember the first access that did not fit: from then on a reader returns zeros and a writer
// writes nothing, and ok() is false. So a codec reads or writes all its fields and asks once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace godwit {

class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    uint8_t u8() { return static_cast<uint8_t>(number(1)); }
    uint16_t u16() { return static_cast<uint16_t>(number(2)); }
    uint32_t u32() { return static_cast<uint32_t>(number(4)); }
    uint64_t u64() { return number(8); }
    // Fills all of `out` (with zeros when the buffer ends before).
    void copy(std::span<std::byte> out);
    // Everything that is left.
    std::span<const std::byte> rest();

    [[nodiscard]] size_t remaining() const { return bytes_.size(); }
    [[nodiscard]] bool ok() const { return ok_; }
    // ok() and nothing is left: a body was neither short nor long.
    [[nodiscard]] bool ended() const { return ok_ && bytes_.empty(); }

  private:
    uint64_t number(size_t width);
    std::span<const std::byte> take(size_t count);

    std::span<const std::byte> bytes_;
    bool ok_ = true;
};

class ByteWriter {
  public:
    explicit ByteWriter(std::span<std::byte> bytes) : bytes_(bytes) {}

    void u8(uint8_t value) { number(value, 1); }
    void u16(uint16_t value) { number(value, 2); }
    void u32(uint32_t value) { number(value, 4); }
    void u64(uint64_t value) { number(value, 8); }
    void copy(std::span<const std::byte> bytes);

    [[nodiscard]] size_t written() const { return written_; }
    [[nodiscard]] bool ok() const { return ok_; }

  private:
    void number(uint64_t value, size_t width);

    std::span<std::byte> bytes_;
    size_t written_ = 0;
    bool ok_ = true;
};

}  // namespace godwit
