#include "dirty-tracking/kvm/clear_windows.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

namespace godwit {
namespace {

constexpr uint64_t kPages = uint64_t{1} << 20;  // 4 GiB

std::vector<PageRange> armed_by(ClearWindows& windows, PageRange range) {
    std::vector<PageRange> armed;
    EXPECT_TRUE(windows
                    .ensure(range,
                            [&](PageRange window) {
                                armed.push_back(window);
                                return absl::OkStatus();
                            })
                    .ok());
    return armed;
}

TEST(ClearWindows, AreLargerWhereLessIsDirty) {
    ClearWindows windows(kPages);
    windows.reset(kPages);
    EXPECT_EQ(windows.window_pages(), ClearWindows::kMinPages);
    windows.reset(kPages / 100);
    EXPECT_EQ(windows.window_pages(), 131072U);  // 100 * 2048, a power of two
    windows.reset(0);
    EXPECT_EQ(windows.window_pages(), ClearWindows::kMaxPages);
}

TEST(ClearWindows, AreArmedOnceBetweenTwoCollects) {
    ClearWindows windows(kPages);
    windows.reset(kPages);
    EXPECT_EQ(armed_by(windows, {2047, 2049}), (std::vector<PageRange>{{0, 2048}, {2048, 4096}}));
    EXPECT_TRUE(armed_by(windows, {0, 4096}).empty());
    EXPECT_EQ(armed_by(windows, {4096, 4097}), (std::vector<PageRange>{{4096, 6144}}));
    windows.reset(kPages);
    EXPECT_EQ(armed_by(windows, {0, 1}), (std::vector<PageRange>{{0, 2048}}));
    windows.all_armed();
    EXPECT_TRUE(armed_by(windows, {0, kPages}).empty());
}

TEST(ClearWindows, EndWithTheBlock) {
    ClearWindows windows(5000);
    windows.reset(5000);
    EXPECT_EQ(armed_by(windows, {4999, 5000}), (std::vector<PageRange>{{4096, 5000}}));
    EXPECT_TRUE(armed_by(windows, {4999, 4999}).empty());
}

TEST(ClearWindows, AreTriedAgainAfterAnError) {
    ClearWindows windows(kPages);
    windows.reset(0);
    const auto fail = [](PageRange) { return absl::UnavailableError("gone"); };
    EXPECT_TRUE(absl::IsUnavailable(windows.ensure({0, 1}, fail)));
    EXPECT_EQ(armed_by(windows, {0, 1}).size(), 1U);
}

TEST(ClearWindows, AreArmedBeforeAnyThreadGoesOn) {
    for (int repeat = 0; repeat < 50; ++repeat) {
        ClearWindows windows(kPages);
        windows.reset(kPages);
        std::array<std::atomic<int>, kPages / ClearWindows::kMinPages> armed{};
        std::atomic<int> early{0};
        const auto walk = [&] {
            for (PageIndex page = 0; page < kPages; page += 512) {
                const size_t window = page / ClearWindows::kMinPages;
                EXPECT_TRUE(windows
                                .ensure({page, page + 512},
                                        [&](PageRange range) {
                                            ++armed[range.begin / ClearWindows::kMinPages];
                                            return absl::OkStatus();
                                        })
                                .ok());
                if (armed[window] != 1) ++early;
            }
        };
        std::jthread first(walk);
        std::jthread second(walk);
        first.join();
        second.join();
        EXPECT_EQ(early, 0);
    }
}

}  // namespace
}  // namespace godwit
