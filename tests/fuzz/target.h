// What every fuzz target defines: it takes bytes from whoever sends them to us and must survive all
// of them. A property that does not hold is a GODWIT_CHECK; the result is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

// The name is libFuzzer's (https://llvm.org/docs/LibFuzzer.html).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace godwit {

inline std::span<const std::byte> fuzz_bytes(const uint8_t* data, size_t size) {
    return std::as_bytes(std::span(data, size));
}

}  // namespace godwit
