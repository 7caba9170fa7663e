#include "engine/model/dropped_pages.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace godwit {
namespace {

constexpr auto kRow = static_cast<double>(kPagesPerChunk);
constexpr WriteSpread kAtRandom{};

double log_choose(double n, double k) {
    return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
}

// By counting: k stale pages of n lie in r runs in C(k - 1, r - 1) · C(n - k + 1, r) ways.
double counted(double share, double most_runs) {
    double by_runs = std::pow(1 - share, kRow);
    double stale = 0;
    for (double k = 1; k <= kRow; ++k)
        for (double r = 1; r <= std::min({k, kRow - k + 1, most_runs}); ++r) {
            const double part = std::exp(log_choose(k - 1, r - 1) + log_choose(kRow - k + 1, r) +
                                         k * std::log(share) + (kRow - k) * std::log1p(-share));
            by_runs += part;
            stale += k * part;
        }
    return kRow * (1 - by_runs) + stale;
}

TEST(DroppedPages, OfPagesAtRandomAreThoseThatCountingGives) {
    for (const double share : {0.001, 0.01, 0.02, 0.03, 0.04, 0.1, 0.5, 0.9, 0.97, 0.99}) {
        const double touched = 100 * kRow;
        EXPECT_NEAR(dropped_pages(share * touched, touched, kAtRandom, Backing::kTmpfsHuge),
                    100 * counted(share, 16), 1e-3 * touched * share)
            << share;
    }
}

TEST(DroppedPages, OfATwentiethAtRandomAreNearlyAllAndOfAHundredthJustThese) {
    const double touched = 65'536;
    EXPECT_GT(dropped_pages(touched / 20, touched, kAtRandom, Backing::kTmpfsHuge), 0.9 * touched);
    EXPECT_LT(dropped_pages(touched / 100, touched, kAtRandom, Backing::kTmpfsHuge),
              1.02 * touched / 100);
}

TEST(DroppedPages, OfHugetlbfsAreAllOfEachHugePageThatHasOne) {
    const double touched = 100 * kRow;
    const double stale = 50;
    EXPECT_NEAR(dropped_pages(stale, touched, kAtRandom, Backing::kHugetlb2M),
                touched * (1 - std::pow(1 - stale / touched, kRow)), 1e-6 * touched);
    // What the tracker saw by huge pages is whole already.
    EXPECT_EQ(dropped_pages(10 * kRow, touched, {.clump_pages = kRow}, Backing::kHugetlb2M),
              10 * kRow);
}

TEST(DroppedPages, OfSmallPagesAreThoseThatAreStale) {
    EXPECT_EQ(dropped_pages(5'000, 50'000, kAtRandom, Backing::kTmpfs4k), 5'000);
}

TEST(DroppedPages, AreAmongThoseThatTheGuestWritesTo) {
    EXPECT_NEAR(dropped_pages(1'000, 65'536, {.span_pages = 8'192}, Backing::kTmpfsHuge), 8'192,
                100);
    // More than was touched there can't be.
    EXPECT_LE(dropped_pages(1'000, 5'000, {.span_pages = 8'192}, Backing::kTmpfsHuge), 5'000);
}

TEST(DroppedPages, AreNeverFewerThanStaleNorMoreThanTouchedNorNone) {
    for (const double stale : {0.0, 1e-9, 1.0, 511.0, 512.0, 9'999.0, 10'000.0})
        for (const Backing backing : {Backing::kTmpfsHuge, Backing::kTmpfs4k, Backing::kHugetlb2M})
            for (const double clump : {1.0, 1.5, 100.0, 1e6}) {
                const double dropped =
                    dropped_pages(stale, 10'000, {.clump_pages = clump}, backing);
                EXPECT_GE(dropped, stale);
                EXPECT_LE(dropped, 10'000);
            }
    EXPECT_EQ(dropped_pages(0, 0, kAtRandom, Backing::kTmpfsHuge), 0);
}

// Pages of many chunks in a row, each stale by what the one before it is.
struct Simulated {
    std::vector<bool> stale;
    explicit Simulated(double share, double clump, size_t chunks) : stale(chunks * kPagesPerChunk) {
        std::mt19937_64 random(7);
        std::uniform_real_distribution<double> throws(0, 1);
        bool now = throws(random) < share;
        for (auto&& page : stale) {
            page = now;
            now = now ? throws(random) >= (1 - share) / clump : throws(random) < share / clump;
        }
    }
    [[nodiscard]] double dropped() const {
        double sum = 0;
        for (size_t chunk = 0; chunk < stale.size(); chunk += kPagesPerChunk) {
            uint64_t runs = 0;
            uint64_t pages = 0;
            for (size_t i = chunk; i < chunk + kPagesPerChunk; ++i) {
                pages += stale[i] ? 1 : 0;
                runs += stale[i] && (i == chunk || !stale[i - 1]) ? 1 : 0;
            }
            sum += static_cast<double>(runs > kMostRunsOfChunk ? kPagesPerChunk : pages);
        }
        return sum;
    }
    // As a window of time sees them.
    [[nodiscard]] DirtySample sample() const {
        DirtySample seen{.window_s = 1,
                         .chunks = static_cast<double>(stale.size() / kPagesPerChunk)};
        for (size_t i = 0; i < stale.size(); ++i) {
            seen.pages += stale[i] ? 1 : 0;
            seen.runs += stale[i] && (i == 0 || !stale[i - 1]) ? 1 : 0;
        }
        return seen;
    }
};

TEST(DroppedPages, OfPagesThatAreWrittenInClumpsAreThoseThatASimulationDrops) {
    constexpr size_t kChunks = 4'000;
    const double touched = kRow * kChunks;
    for (const double share : {0.05, 0.2, 0.5})
        for (const double clump : {1.0, 3.0, 6.0, 20.0, 200.0}) {
            const Simulated guest(share, clump, kChunks);
            EXPECT_NEAR(dropped_pages(share * touched, touched, {.clump_pages = clump},
                                      Backing::kTmpfsHuge),
                        guest.dropped(), 0.03 * touched)
                << share << " in clumps of " << clump;
        }
}

TEST(WriteSpread, IsFoundInSamples) {
    for (const double clump : {1.0, 3.0, 40.0}) {
        const WriteSpread spread = spread_of(std::vector<DirtySample>{
            Simulated(0.2, clump, 1'000).sample(), Simulated(0.1, clump, 1'000).sample(),
            Simulated(0.3, clump, 1'000).sample()});
        EXPECT_EQ(spread.span_pages, 1'000 * kRow);
        EXPECT_NEAR(spread.clump_pages, clump, 0.1 * clump);
    }
}

TEST(WriteSpread, OfAWriterPageAfterPageIsALongClumpHoweverMuchItWroteAtLast) {
    const std::vector<DirtySample> samples = {
        {.window_s = 0.1, .pages = 800, .runs = 1, .chunks = 3},
        {.window_s = 0.1, .pages = 800, .runs = 2, .chunks = 3},
        {.window_s = 10, .pages = 16'384, .runs = 1, .chunks = 32}};
    const WriteSpread spread = spread_of(samples);
    EXPECT_EQ(spread.span_pages, 16'384);
    EXPECT_GT(spread.clump_pages, 300);
    // A third of its set is no reason to drop the rest.
    EXPECT_LT(dropped_pages(5'000, 65'536, spread, Backing::kTmpfsHuge), 5'100);
}

TEST(WriteSpread, OfSamplesThatDoNotTellIsAtRandomOverAll) {
    for (const auto& samples :
         {std::vector<DirtySample>{}, std::vector<DirtySample>{{.window_s = 1, .pages = 100}},
          std::vector<DirtySample>{{.window_s = 1, .pages = 0}}}) {
        EXPECT_EQ(spread_of(samples).span_pages, 0);
        EXPECT_EQ(spread_of(samples).clump_pages, 1);
    }
    // All of its set in each window.
    const DirtySample full{.window_s = 1, .pages = 1'000, .runs = 2, .chunks = 2};
    EXPECT_EQ(spread_of(std::vector<DirtySample>{full}).clump_pages, 1);
}

}  // namespace
}  // namespace godwit
