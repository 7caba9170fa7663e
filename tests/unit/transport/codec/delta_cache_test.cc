#include "transport/codec/delta_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <vector>

#include "tests/unit/transport/random_bytes.h"

namespace godwit {
namespace {

using Page = std::vector<std::byte>;

PageBytes bytes_of(Page& page) { return PageBytes(page.data(), kPageBytes); }

Page page_of(uint8_t letter) { return Page(kPageBytes, static_cast<std::byte>(letter)); }

DeltaCache cache_of(size_t pages) { return DeltaCache::create(pages * kPageBytes).value(); }

// Sends a page as the source does; returns whether it was a delta.
bool send(DeltaCache& cache, PageIndex page, const Page& before, Page now) {
    const Hash128 sent = before.empty() ? Hash128{} : hash_bytes(before);
    return cache.exchange(0, page, {.sent = sent, .now = hash_bytes(now)}, bytes_of(now));
}

TEST(DeltaCache, ADeltaIsTheXorOfOldAndNewAndTheNewIsKept) {
    DeltaCache cache = cache_of(4);
    Random random(1);
    Page first = random_bytes(random, kPageBytes);
    EXPECT_FALSE(send(cache, 7, {}, first));
    Page second = first;
    for (size_t i = 0; i < 64; ++i) second[i * 32] ^= std::byte{0x55};  // in every other line
    std::fill(second.begin() + 2048, second.end(), std::byte{0});
    std::copy(first.begin() + 2048, first.end(), second.begin() + 2048);
    Page delta = second;
    ASSERT_TRUE(cache.exchange(0, 7, {.sent = hash_bytes(first), .now = hash_bytes(second)},
                               bytes_of(delta)));
    Page applied = first;
    xor_page(bytes_of(applied), bytes_of(delta));
    EXPECT_EQ(applied, second);
    const std::byte* held = cache.find(0, 7, hash_bytes(second));
    ASSERT_NE(held, nullptr);
    EXPECT_TRUE(std::equal(second.begin(), second.end(), held));
    EXPECT_EQ(cache.find(0, 7, hash_bytes(first)), nullptr);
    EXPECT_EQ(cache.find(1, 7, hash_bytes(second)), nullptr);
    EXPECT_EQ(cache.find(0, 8, hash_bytes(second)), nullptr);
}

TEST(DeltaCache, AContentThatWasOvertakenIsNotUsed) {
    DeltaCache cache = cache_of(4);
    Page first = page_of(1);
    Page unseen = page_of(2);
    Page third = page_of(1);
    third[0] = std::byte{9};
    EXPECT_FALSE(send(cache, 0, {}, first));
    // Meanwhile `unseen` was sent, and the cache was not told.
    Page content = third;
    EXPECT_FALSE(cache.exchange(0, 0, {.sent = hash_bytes(unseen), .now = hash_bytes(third)},
                                bytes_of(content)));
    EXPECT_EQ(content, third);
    EXPECT_EQ(cache.counts().stale, 1U);
    // From now on it is right again.
    EXPECT_TRUE(send(cache, 0, third, first));
}

TEST(DeltaCache, APageThatIsWrittenAllOverIsNoDelta) {
    DeltaCache cache = cache_of(4);
    Page first = page_of(1);
    Page second = page_of(2);
    EXPECT_FALSE(send(cache, 0, {}, first));
    Page content = second;
    EXPECT_FALSE(cache.exchange(0, 0, {.sent = hash_bytes(first), .now = hash_bytes(second)},
                                bytes_of(content)));
    EXPECT_EQ(content, second);
    EXPECT_EQ(cache.counts().rewritten, 1U);
    ASSERT_NE(cache.find(0, 0, hash_bytes(second)), nullptr);
}

TEST(DeltaCache, APageSentOnceTakesNobodysPlaceAndOneSentAgainThatOfTheLongestUnused) {
    DeltaCache cache = cache_of(2);
    const Page page = page_of(1);
    Page changed = page_of(1);
    changed[5] = std::byte{6};
    send(cache, 0, {}, page);
    send(cache, 1, {}, page);
    send(cache, 2, {}, page);
    EXPECT_EQ(cache.find(0, 2, hash_bytes(page)), nullptr);
    cache.begin_round();
    EXPECT_TRUE(send(cache, 0, page, changed));
    EXPECT_FALSE(send(cache, 2, page, changed));  // in the place of 1, which was sent once
    EXPECT_NE(cache.find(0, 2, hash_bytes(changed)), nullptr);
    EXPECT_FALSE(send(cache, 1, page, changed));  // both others were resent in this round
    EXPECT_EQ(cache.counts().refused, 1U);
    cache.begin_round();
    EXPECT_FALSE(send(cache, 1, changed, page));  // or in the one before
    EXPECT_TRUE(send(cache, 2, changed, page));
    cache.begin_round();
    EXPECT_FALSE(send(cache, 1, page, changed));  // 0 was not resent for a round
    EXPECT_EQ(cache.find(0, 0, hash_bytes(changed)), nullptr);
    EXPECT_TRUE(send(cache, 1, changed, page));
    EXPECT_EQ(cache.counts().evicted, 2U);
}

TEST(DeltaCache, AWorkingSetLargerThanTheCacheStillProfits) {
    DeltaCache cache = cache_of(64);
    const Page even = page_of(1);
    Page odd = page_of(1);
    odd[0] = std::byte{2};
    for (PageIndex page = 0; page < 256; ++page) send(cache, page, {}, even);
    size_t deltas = 0;
    for (size_t round = 0; round < 10; ++round) {
        cache.begin_round();
        for (PageIndex page = 100; page < 256; ++page)
            deltas += send(cache, page, round % 2 == 0 ? even : odd, round % 2 == 0 ? odd : even);
    }
    EXPECT_EQ(deltas, 9U * 64);
}

TEST(DeltaCache, WhatIsForgottenIsGoneAndMakesRoom) {
    DeltaCache cache = cache_of(8);
    const Page page = page_of(1);
    for (PageIndex i = 0; i < 8; ++i) send(cache, i, {}, page);
    cache.forget(0, {2, 4});
    EXPECT_EQ(cache.page_count(), 6U);
    EXPECT_EQ(cache.find(0, 3, hash_bytes(page)), nullptr);
    EXPECT_NE(cache.find(0, 4, hash_bytes(page)), nullptr);
    cache.forget(1, {0, 1 << 20});
    EXPECT_EQ(cache.page_count(), 6U);
    send(cache, 20, {}, page);
    send(cache, 21, {}, page);
    EXPECT_NE(cache.find(0, 21, hash_bytes(page)), nullptr);
    cache.forget(0, {0, 1 << 20});
    EXPECT_EQ(cache.page_count(), 0U);
}

TEST(DeltaCache, ACapacityOutOfBoundsIsRefused) {
    EXPECT_TRUE(absl::IsInvalidArgument(DeltaCache::create(4095).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(DeltaCache::create(uint64_t{1} << 43).status()));
}

// The same, slowly: a list in the order of eviction.
class NaiveCache {
  public:
    explicit NaiveCache(size_t capacity) : capacity_(capacity) {}

    void begin_round() { ++round_; }

    bool exchange(uint64_t key, const Page& sent, const Page& now) {
        const auto at = find(key);
        const bool resent = !sent.empty();
        if (at != entries_.end()) {
            const bool right = at->content == sent;
            const bool few = right && changed_lines(sent, now) <= DeltaCache::kMostChangedLines;
            entries_.erase(at);
            insert({key, now, resent ? round_ : 0});
            return few;
        }
        if (entries_.size() == capacity_) {
            if (!resent) return false;
            const size_t last = entries_.front().resent_in_round;
            if (last != 0 && last + 1 >= round_) return false;
            entries_.pop_front();
        }
        insert({key, now, resent ? round_ : 0});
        return false;
    }

    void forget(uint64_t begin, uint64_t end) {
        entries_.remove_if([&](const Entry& e) { return e.key >= begin && e.key < end; });
    }

    const Page* content(uint64_t key) {
        const auto at = find(key);
        return at == entries_.end() ? nullptr : &at->content;
    }
    [[nodiscard]] size_t size() const { return entries_.size(); }

  private:
    struct Entry {
        uint64_t key;
        Page content;
        size_t resent_in_round;
    };

    static size_t changed_lines(const Page& a, const Page& b) {
        size_t count = 0;
        for (size_t i = 0; i < kPageBytes; i += 64)
            count += std::memcmp(&a[i], &b[i], 64) != 0 ? 1 : 0;
        return count;
    }
    std::list<Entry>::iterator find(uint64_t key) {
        return std::ranges::find(entries_, key, &Entry::key);
    }
    void insert(Entry entry) {
        entries_.insert(entry.resent_in_round != 0 ? entries_.end() : entries_.begin(),
                        std::move(entry));
    }

    size_t capacity_;
    size_t round_ = 1;
    std::list<Entry> entries_;
};

TEST(DeltaCache, DoesWhatASlowOneDoes) {
    constexpr size_t kPages = 60;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        Random random(seed);
        const size_t capacity = 1 + random_below(random, 40);
        DeltaCache cache = cache_of(capacity);
        NaiveCache naive(capacity);
        // What the destination holds, fed with what travels.
        std::map<uint64_t, Page> source;
        std::map<uint64_t, Page> destination;
        for (size_t step = 0; step < 3000; ++step) {
            const size_t action = random_below(random, 100);
            if (action < 2) {
                cache.begin_round();
                naive.begin_round();
                continue;
            }
            const uint64_t page = random_below(random, kPages);
            const BlockIndex block = page % 2;
            // Far apart pages of two blocks; the naive key is in the order of forget().
            const PageIndex index = (page / 2) << (seed % 3 * 20);
            const uint64_t key = block * 1000 + page / 2;
            if (action < 5) {
                const size_t count = random_below(random, 4);
                cache.forget(block, {index, index + (count << (seed % 3 * 20))});
                naive.forget(key, key + count);
                continue;
            }
            Page now = source[key];
            if (now.empty() || random_below(random, 8) == 0) now = random_bytes(random, kPageBytes);
            for (size_t i = random_below(random, 40); i > 0; --i)
                now[random_below(random, kPageBytes)] = static_cast<std::byte>(random());
            const bool told = random_below(random, 10) != 0;
            const Page sent = source[key];
            source[key] = now;
            Page payload = now;
            bool delta = false;
            if (told) {
                const Hash128 before = sent.empty() ? Hash128{} : hash_bytes(sent);
                delta = cache.exchange(block, index, {.sent = before, .now = hash_bytes(now)},
                                       bytes_of(payload));
                ASSERT_EQ(delta, naive.exchange(key, sent, now)) << seed << ' ' << step;
            }
            if (delta)
                xor_page(bytes_of(destination[key]), bytes_of(payload));
            else
                destination[key] = payload;
            ASSERT_EQ(destination[key], now) << seed << ' ' << step;
            ASSERT_EQ(cache.page_count(), naive.size());
            if (const Page* held = naive.content(key)) {
                const std::byte* found = cache.find(block, index, hash_bytes(*held));
                ASSERT_NE(found, nullptr);
                ASSERT_TRUE(std::equal(held->begin(), held->end(), found));
            }
        }
    }
}

TEST(XorPage, AgreesWithTheXorOfEachByteAtAnyAlignment) {
    Random random(3);
    for (size_t shift = 0; shift < 70; ++shift) {
        Page a = random_bytes(random, kPageBytes + shift);
        Page b = random_bytes(random, kPageBytes + shift);
        std::copy_n(a.begin() + static_cast<std::ptrdiff_t>(shift), 64 * shift / 2,
                    b.begin() + static_cast<std::ptrdiff_t>(shift));
        const PageBytes page(a.data() + shift, kPageBytes);
        const PageBytes kept(b.data() + shift, kPageBytes);
        const Page old_page(page.begin(), page.end());
        const Page old_kept(kept.begin(), kept.end());
        EXPECT_EQ(exchange_for_xor(page, kept), 64 - shift / 2);
        for (size_t i = 0; i < kPageBytes; ++i) {
            ASSERT_EQ(page[i], old_page[i] ^ old_kept[i]);
            ASSERT_EQ(kept[i], old_page[i]);
        }
        xor_page(page, kept);
        EXPECT_TRUE(std::ranges::equal(page, old_kept));
    }
}

}  // namespace
}  // namespace godwit
