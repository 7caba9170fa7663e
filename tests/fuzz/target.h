// What every fuzz target defines: it takes bytes from whoever sends them to us and must survive all
// of them. A property that does not hold is a GODWIT_CHECK; the result is 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// The name is libFuzzer's (https://llvm.org/docs/LibFuzzer.html).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace godwit {

// Takes an input apart from its front; zeros when it has ended.
class FuzzInputReader {
  public:
    FuzzInputReader(const uint8_t* data, size_t size) : rest_(data, size) {}

    uint8_t u8() {
        const auto byte = bytes(1);
        return byte.empty() ? uint8_t{0} : std::to_integer<uint8_t>(byte[0]);
    }
    uint16_t u16() {
        const uint16_t low = u8();
        return static_cast<uint16_t>(low | u8() << 8);
    }
    // Fewer when there are fewer.
    std::span<const std::byte> bytes(size_t count) {
        const auto taken = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        return std::as_bytes(taken);
    }
    std::span<const std::byte> rest() { return bytes(rest_.size()); }
    std::string_view text() {
        const auto all = rest();
        return {reinterpret_cast<const char*>(all.data()), all.size()};
    }
    [[nodiscard]] bool empty() const { return rest_.empty(); }

  private:
    std::span<const uint8_t> rest_;
};

}  // namespace godwit
