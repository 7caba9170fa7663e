#include "engine/base/copy_page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "engine/base/sanitizers.h"
#include "engine/base/units.h"

namespace godwit {
namespace {

using Page = std::vector<std::byte>;

TEST(CopyPage, CopiesAndReturnsTheHashOfThePage) {
    std::mt19937_64 random(1);
    for (size_t shift = 0; shift < 200; ++shift) {
        Page from(kPageBytes + shift);
        for (std::byte& byte : from) byte = static_cast<std::byte>(random());
        Page to(kPageBytes + shift + 1, std::byte{0xee});
        const auto page = std::span<const std::byte>(from).last(kPageBytes);
        EXPECT_EQ(copy_page(to.data() + shift, page.data()), hash_bytes(page)) << shift;
        EXPECT_TRUE(std::equal(page.begin(), page.end(), to.data() + shift));
        EXPECT_EQ(to.back(), std::byte{0xee});
        if (shift > 0) {
            EXPECT_EQ(to[shift - 1], std::byte{0xee});
        }
    }
}

TEST(CopyPage, OneByteIsEnoughAndZerosAreNotWritten) {
    Page from(kPageBytes);
    Page to(kPageBytes, std::byte{0xee});
    EXPECT_EQ(copy_page(to.data(), from.data()), Hash128{});
    EXPECT_EQ(to, Page(kPageBytes, std::byte{0xee}));
    for (size_t i = 0; i < kPageBytes; ++i) {
        from[i] = std::byte{1};
        EXPECT_EQ(copy_page(to.data(), from.data()), hash_bytes(from)) << i;
        EXPECT_EQ(to, from);
        from[i] = std::byte{0};
    }
}

// A hash of anything but what was sent would make the next round take the page for unchanged.
TEST(CopyPage, TheHashIsThatOfTheCopyWhileAnotherThreadWritesThePage) {
#if GODWIT_TSAN
    GTEST_SKIP() << "a race, and meant as one";
#endif
    alignas(64) static std::atomic<uint64_t> words[kPageBytes / 8];
    std::jthread writer([](const std::stop_token& stop) {
        for (uint64_t value = 1; !stop.stop_requested(); ++value)
            for (std::atomic<uint64_t>& word : words) word.store(value, std::memory_order_relaxed);
    });
    Page to(kPageBytes);
    Hash128 last;
    for (size_t changes = 0; changes < 5000;) {
        const Hash128 hash = copy_page(to.data(), reinterpret_cast<const std::byte*>(words));
        if (hash == last || hash == Hash128{}) continue;
        ASSERT_EQ(hash, hash_bytes(to));
        last = hash;
        ++changes;
    }
}

}  // namespace
}  // namespace godwit
