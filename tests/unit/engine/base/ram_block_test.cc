#include "engine/base/ram_block.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <vector>

#include "engine/base/hash.h"

namespace godwit {
namespace {

class RamBlockTest : public testing::Test {
  protected:
    void SetUp() override {
        fd_.reset(::mkstemp(path_.data()));
        ASSERT_TRUE(fd_.valid());
    }
    void TearDown() override { ::unlink(path_.c_str()); }

    std::string path_ = "/dev/shm/godwit-ram-XXXXXX";
    UniqueFd fd_;
};

TEST_F(RamBlockTest, ExtentsNameExactlyTheAllocatedPages) {
    ASSERT_EQ(::ftruncate(fd_.get(), 8 << 20), 0);
    const std::vector<char> page(kPageBytes, 'x');
    for (Bytes index : {3, 4, 700})
        ASSERT_TRUE(write_fully(fd_.get(), page.data(), page.size(), index * kPageBytes).ok());
    PageBitmap seen(2048);
    ASSERT_TRUE(for_each_data_extent(fd_.get(), 8 << 20, [&](PageRange range) {
                    seen.set_range(range);
                }).ok());
    for (PageIndex index : {3, 4, 700}) EXPECT_TRUE(seen.test(index));
    EXPECT_LT(seen.count(), 2048U);
}

TEST_F(RamBlockTest, DataIsFoundWhereItBegins) {
    ASSERT_EQ(::ftruncate(fd_.get(), 8 << 20), 0);
    const std::vector<char> page(kPageBytes, 'x');
    for (Bytes index : {600, 601, 1500})
        ASSERT_TRUE(write_fully(fd_.get(), page.data(), page.size(), index * kPageBytes).ok());
    const auto found = [&](PageIndex begin, PageIndex end) {
        return *find_data(fd_.get(), begin * kPageBytes, end * kPageBytes) / kPageBytes;
    };
    EXPECT_EQ(found(0, 600), 600u);  // nothing before the end
    EXPECT_EQ(found(600, 2048), 600u);
    EXPECT_EQ(found(602, 2048), 1500u);
    EXPECT_EQ(found(1501, 2048), 2048u);
    EXPECT_FALSE(find_data(-1, 0, kPageBytes).ok());
}

TEST_F(RamBlockTest, AnOddSizeIsRefusedByName) {
    ASSERT_EQ(::ftruncate(fd_.get(), 12345), 0);
    const auto block = open_ram_block("ram0", path_, Backing::kTmpfs4k);
    ASSERT_FALSE(block.ok());
    EXPECT_NE(block.status().message().find(path_), std::string::npos);
}

TEST_F(RamBlockTest, ReadingPastTheEndIsAnError) {
    char byte = 0;
    EXPECT_EQ(read_fully(fd_.get(), &byte, 1, 0).code(), absl::StatusCode::kOutOfRange);
}

TEST(Hash, ZeroTestSeesEveryByte) {
    std::vector<std::byte> page(kPageBytes);
    EXPECT_TRUE(is_zero(page));
    for (size_t at : {size_t{0}, size_t{7}, size_t{8}, kPageBytes / 2, kPageBytes - 1}) {
        page[at] = std::byte{1};
        EXPECT_FALSE(is_zero(page)) << at;
        page[at] = std::byte{0};
    }
}

}  // namespace
}  // namespace godwit
