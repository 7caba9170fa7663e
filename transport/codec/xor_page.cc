#include "transport/codec/xor_page.h"

namespace godwit {
namespace {

constexpr size_t kLineBytes = 64;

// A line as the compiler's own SIMD; pages in a frame are aligned to nothing.
using Line [[gnu::vector_size(kLineBytes), gnu::aligned(1), gnu::may_alias]] = uint64_t;

const Line& line(const std::byte* page, size_t offset) {
    return *reinterpret_cast<const Line*>(page + offset);
}
Line& line(std::byte* page, size_t offset) { return *reinterpret_cast<Line*>(page + offset); }

}  // namespace

uint32_t count_changed_lines(ConstPageBytes a, ConstPageBytes b) {
    uint32_t count = 0;
    for (size_t i = 0; i < kPageBytes; i += kLineBytes) {
        const Line changed = line(a.data(), i) ^ line(b.data(), i);
        const uint64_t any = (changed[0] | changed[1]) | (changed[2] | changed[3]) |
                             (changed[4] | changed[5]) | (changed[6] | changed[7]);
        count += any != 0 ? 1 : 0;
    }
    return count;
}

void exchange_for_xor(PageBytes page, PageBytes kept) {
    for (size_t i = 0; i < kPageBytes; i += kLineBytes) {
        const Line now = line(page.data(), i);
        line(page.data(), i) = now ^ line(kept.data(), i);
        line(kept.data(), i) = now;
    }
}

void xor_page(PageBytes page, ConstPageBytes delta) {
    for (size_t i = 0; i < kPageBytes; i += kLineBytes)
        line(page.data(), i) ^= line(delta.data(), i);
}

}  // namespace godwit
