#include "engine/postcopy/beside_missing.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/postcopy/punch_stale.h"
#include "tests/unit/engine/postcopy/fault_ram.h"

namespace godwit {
namespace {

class BesideMissing : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
        auto ram = FaultRam::create("tmpfs", "size=64M,huge=" + std::string(GetParam()),
                                    2 * kChunkBytes, 1);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
        ASSERT_TRUE(ram_->attach().ok());
        ASSERT_TRUE(ram_->memory->register_all().ok());
    }
    const RamBlock& block() { return ram_->blocks[0]; }
    std::byte first_byte(PageIndex page) {
        std::byte byte{};
        EXPECT_TRUE(read_fully(block().file.get(), &byte, 1, page * kPageBytes).ok());
        return byte;
    }

    std::unique_ptr<FaultRam> ram_;
};

TEST_P(BesideMissing, OverwritesWhatIsThereAndFillsTheRestAndTouchesNoOther) {
    ram_->write_content(1);
    PunchTotals totals;
    ChunkMask gone{};
    gone[1] = ~uint64_t{0};  // pages 64 to 127
    ASSERT_TRUE(punch_stale(block(), 0, gone, totals).ok());
    // 63 is there, 64 and 66 are not, 65 stays missing, 127 is a hole and 128 is there.
    const ChunkMask present = some_pages({62, 63, 64, 66, 127, 128});
    const ChunkMask zero = some_pages({62, 127});
    std::vector<std::byte> raw(4 * kPageBytes);
    for (size_t i = 0; i < 4; ++i)
        std::memset(raw.data() + i * kPageBytes, static_cast<int>(0xa0 + i), kPageBytes);
    ASSERT_TRUE(put_beside_missing(*ram_->memory, 0, 0, present, zero, raw).ok());
    EXPECT_EQ(first_byte(62), std::byte{0});
    EXPECT_EQ(first_byte(63), std::byte{0xa0});
    EXPECT_EQ(first_byte(64), std::byte{0xa1});
    EXPECT_EQ(first_byte(66), std::byte{0xa2});
    EXPECT_EQ(first_byte(128), std::byte{0xa3});
    for (PageIndex page = 64; page < 128; ++page)
        EXPECT_EQ(ram_->is_present(page), page == 64 || page == 66) << page;
}

TEST_P(BesideMissing, InAnEmptyChunkOnlyThesePagesBecomePresent) {
    const ChunkMask present = some_pages({3, 200});
    const std::vector<std::byte> raw(2 * kPageBytes, std::byte{7});
    ASSERT_TRUE(put_beside_missing(*ram_->memory, 0, 1, present, {}, raw).ok());
    for (PageIndex page = 512; page < 1024; ++page)
        EXPECT_EQ(ram_->is_present(page), page == 515 || page == 712) << page;
    EXPECT_EQ(first_byte(712), std::byte{7});
}

INSTANTIATE_TEST_SUITE_P(Backings, BesideMissing, testing::Values("always", "never"));

}  // namespace
}  // namespace godwit
