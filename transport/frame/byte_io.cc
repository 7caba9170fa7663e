#include "transport/frame/byte_io.h"

#include <algorithm>

namespace godwit {

std::span<const std::byte> ByteReader::take(size_t count) {
    if (!ok_ || count > bytes_.size()) {
        ok_ = false;
        return {};
    }
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
}

uint64_t ByteReader::number(size_t width) {
    const auto bytes = take(width);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i)
        value |= uint64_t{std::to_integer<uint8_t>(bytes[i])} << (8 * i);
    return value;
}

void ByteReader::copy(std::span<std::byte> out) {
    const auto bytes = take(out.size());
    if (bytes.size() == out.size())
        std::copy(bytes.begin(), bytes.end(), out.begin());
    else
        std::fill(out.begin(), out.end(), std::byte{0});
}

std::span<const std::byte> ByteReader::rest() { return take(bytes_.size()); }

void ByteWriter::copy(std::span<const std::byte> bytes) {
    if (!ok_ || bytes.size() > bytes_.size() - written_) {
        ok_ = false;
        return;
    }
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(written_));
    written_ += bytes.size();
}

void ByteWriter::number(uint64_t value, size_t width) {
    std::byte bytes[8];
    for (size_t i = 0; i < width; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
    copy(std::span<const std::byte>(bytes, width));
}

}  // namespace godwit
