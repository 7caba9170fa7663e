#include "engine/base/units.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

using std::chrono::nanoseconds;

TEST(Units, SizesAreReadInPowersOf1024) {
    EXPECT_EQ(*parse_bytes("512"), 512U);
    EXPECT_EQ(*parse_bytes("64K"), 65536U);
    EXPECT_EQ(*parse_bytes("256MiB"), 256U << 20);
    EXPECT_EQ(*parse_bytes("1.5G"), 3U << 29);
    EXPECT_EQ(*parse_bytes("1GB"), 1U << 30);
}

TEST(Units, NonsenseSizesAreRefused) {
    for (const char* text : {"", "GiB", "-1", "1X", "1GiBB", "1..5G", "1e9", "99999999T", "nan"})
        EXPECT_FALSE(parse_bytes(text).ok()) << text;
}

TEST(Units, DurationsNeedAUnit) {
    EXPECT_EQ(*parse_duration("50ms"), nanoseconds(50'000'000));
    EXPECT_EQ(*parse_duration("1.5s"), nanoseconds(1'500'000'000));
    EXPECT_FALSE(parse_duration("50").ok());
    EXPECT_FALSE(parse_duration("ms").ok());
    EXPECT_FALSE(parse_duration("-1ms").ok());
}

TEST(Units, RatesAreBitsOrBytes) {
    EXPECT_EQ(*parse_rate("1Gbit"), 125'000'000U);
    EXPECT_EQ(*parse_rate("100Mb/s"), 12'500'000U);
    EXPECT_EQ(*parse_rate("125MB/s"), 125'000'000U);
    EXPECT_EQ(*parse_rate("64MiB/s"), 64U << 20);
    EXPECT_FALSE(parse_rate("100").ok());
    EXPECT_FALSE(parse_rate("fast").ok());
}

}  // namespace
}  // namespace godwit
