// Bitmaps in memory of their own (mmap: the resident never uses malloc).
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>

namespace godwit::resident {

// One bit per page of a slot, padded to whole words as KVM writes it.
struct Bitmap {
    uint64_t* words = nullptr;
    uint64_t word_count = 0;

    [[nodiscard]] bool exists() const { return words != nullptr; }

    // All zero. False when there is no memory; nothing has changed then.
    bool allocate(uint64_t bits) {
        const uint64_t count = (bits + 63) / 64;
        void* memory = ::mmap(nullptr, count * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return false;
        release();
        words = static_cast<uint64_t*>(memory);
        word_count = count;
        return true;
    }

    void release() {
        if (words != nullptr) ::munmap(words, word_count * sizeof(uint64_t));
        words = nullptr;
        word_count = 0;
    }

    void set_first(uint64_t bits) {
        for (uint64_t i = 0; i < bits / 64; ++i) words[i] = ~uint64_t{0};
        if (bits % 64 != 0) words[bits / 64] |= (uint64_t{1} << bits % 64) - 1;
    }
};

// The bits of word `index` that lie in [begin, end).
inline uint64_t mask_of(uint64_t index, uint64_t begin, uint64_t end) {
    const uint64_t first = index * 64;
    uint64_t mask = ~uint64_t{0};
    if (begin >= first + 64 || end <= first) return 0;
    if (begin > first) mask &= ~uint64_t{0} << (begin - first);
    if (end < first + 64) mask &= (uint64_t{1} << (end - first)) - 1;
    return mask;
}

}  // namespace godwit::resident
