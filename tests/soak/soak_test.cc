// What the soak draws, and what it takes for a leak.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>

#include "engine/base/wait.h"
#include "tests/soak/itinerary.h"
#include "tests/soak/soak_options.h"
#include "tests/soak/vitals.h"

namespace godwit {
namespace {

std::string text_of(const Trip& trip) {
    std::string text;
    for (const std::string& flag : trip.flags) text += flag + " ";
    for (const Meddling& one : trip.meddling) {
        text += std::to_string(one.after.count()) + " " + one.command + " ";
        for (const std::string& flag : one.flags) text += flag + " ";
    }
    return text;
}

std::string value_of(const Trip& trip, const std::string& flag) {
    const auto found = std::find(trip.flags.begin(), trip.flags.end(), flag);
    return found == trip.flags.end() ? std::string() : *std::next(found);
}

TEST(Itinerary, OfTheSameSeedIsTheSame) {
    Itinerary one(7, true), same(7, true), other(8, true);
    bool differs = false;
    for (int trip = 0; trip < 100; ++trip) {
        const std::string text = text_of(one.next());
        EXPECT_EQ(text, text_of(same.next()));
        differs |= text != text_of(other.next());
    }
    EXPECT_TRUE(differs);
}

TEST(Itinerary, HasEveryStrategyTrackerAndMeddling) {
    Itinerary itinerary(1, true);
    std::set<std::string> seen;
    for (int i = 0; i < 500; ++i) {
        const Trip trip = itinerary.next();
        for (const char* flag : {"--strategy", "--tracker", "--on-no-converge", "--compress"})
            seen.insert(value_of(trip, flag));
        for (const Meddling& one : trip.meddling) seen.insert(one.command);
    }
    for (const char* word :
         {"hybrid", "precopy", "postcopy", "stop-and-copy", "uffd-wp", "kvm-dirty-log", "throttle",
          "lz4", "zstd", "limit", "switch", "cancel"})
        EXPECT_TRUE(seen.contains(word)) << word;
}

TEST(Itinerary, AsksNothingOfAGuestWithoutKvmThatNeedsKvm) {
    Itinerary itinerary(1, false);
    for (int i = 0; i < 500; ++i) {
        const Trip trip = itinerary.next();
        EXPECT_NE(value_of(trip, "--tracker"), "kvm-dirty-log");
        EXPECT_NE(value_of(trip, "--on-no-converge"), "throttle");
    }
}

std::vector<Vitals> steady(size_t count) {
    return std::vector<Vitals>(
        count, {.memory = 100 << 20, .mappings = 900, .descriptors = 40, .threads = 30});
}

TEST(Flatness, OfWhatStaysAsItIsFindsNoLeak) {
    const auto flat = judge(steady(kLeastRests), {});
    ASSERT_TRUE(flat.ok()) << flat.status();
    EXPECT_TRUE(flat->leaks.empty());
    EXPECT_EQ(flat->before, flat->after);
}

TEST(Flatness, IgnoresTheWarmUpAndASinglePeak) {
    std::vector<Vitals> rests = steady(12);
    for (size_t i = 0; i < 3; ++i) rests[i].memory = 1 << 20;
    rests.back().descriptors += 100;
    const auto flat = judge(rests, {});
    ASSERT_TRUE(flat.ok()) << flat.status();
    EXPECT_TRUE(flat->leaks.empty());
}

TEST(Flatness, FindsWhateverIsLostNowAndThen) {
    std::vector<Vitals> rests = steady(40);
    for (size_t i = 0; i < rests.size(); ++i) {
        rests[i].memory += i * (4 << 20);
        rests[i].mappings += static_cast<int>(i * 9);
        rests[i].descriptors += static_cast<int>(i / 8);
        rests[i].threads += static_cast<int>(i / 4);
    }
    const auto flat = judge(rests, {});
    ASSERT_TRUE(flat.ok()) << flat.status();
    EXPECT_EQ(flat->leaks.size(), 4U);
}

TEST(Flatness, OfTooFewLooksIsUnknown) {
    EXPECT_TRUE(absl::IsFailedPrecondition(judge(steady(kLeastRests - 1), {}).status()));
}

TEST(Vitals, CountWhatAProcessHolds) {
    const auto before = vitals_of(::getpid());
    ASSERT_TRUE(before.ok()) << before.status();
    const auto wakeup = Wakeup::create();
    const std::vector<char> memory(8 << 20, 'x');
    std::jthread waiter([&](const std::stop_token&) {
        wait_readable(wakeup->fd(), -1, std::nullopt).IgnoreError();
    });
    const auto after = vitals_of(::getpid());
    wakeup->notify();
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_EQ(after->descriptors, before->descriptors + 1);
    EXPECT_EQ(after->threads, before->threads + 1);
    EXPECT_GT(after->mappings, before->mappings);
    EXPECT_GE(after->memory, before->memory + memory.size());
}

TEST(Vitals, OfNoProcessAreAnError) { EXPECT_TRUE(absl::IsNotFound(vitals_of(1 << 30).status())); }

TEST(SoakOptions, TakeHoursToo) {
    EXPECT_EQ(*parse_long_duration("1h"), std::chrono::hours(1));
    EXPECT_EQ(*parse_long_duration("90s"), std::chrono::seconds(90));
    for (const char* nonsense : {"", "h", "-1h", "0h", "1.5h", "0s", "99999999h", "1"})
        EXPECT_TRUE(absl::IsInvalidArgument(parse_long_duration(nonsense).status())) << nonsense;
}

}  // namespace
}  // namespace godwit
