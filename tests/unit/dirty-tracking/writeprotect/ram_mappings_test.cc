#include "dirty-tracking/writeprotect/ram_mappings.h"

#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

namespace godwit {
namespace {

constexpr Bytes kMappedBytes = 4 * kChunkBytes;

class RamMappings : public testing::Test {
  protected:
    void SetUp() override {
        auto ram = TrackedRam::create("tmpfs", "size=64M", {kMappedBytes});
        if (!ram.ok()) GTEST_SKIP() << ram.status();
        ram_ = *std::move(ram);
    }
    absl::StatusOr<std::vector<RamMapping>> find() const {
        const RamBlock& block = ram_->blocks[0];
        return find_ram_mappings(ram_->writer->pid(),
                                 {block.name, block.device, block.inode, block.size});
    }
    std::unique_ptr<TrackedRam> ram_;
};

TEST_F(RamMappings, FindsEveryViewWithItsOffset) {
    ASSERT_EQ(ram_->map_again(0, kChunkBytes, 2 * kChunkBytes), "fine");
    const auto mappings = find();
    ASSERT_TRUE(mappings.ok()) << mappings.status();
    ASSERT_EQ(mappings->size(), 2u);
    Bytes offsets = 0;
    for (const RamMapping& mapping : *mappings) offsets += mapping.offset;
    EXPECT_EQ(offsets, kChunkBytes);
}

TEST_F(RamMappings, RefusesAPrivateMappingAndNamesTheRemedy) {
    ASSERT_EQ(ram_->map_again(0, 0, kMappedBytes, "private"), "fine");
    const auto mappings = find();
    ASSERT_TRUE(absl::IsFailedPrecondition(mappings.status()));
    EXPECT_NE(mappings.status().message().find("ram0"), std::string::npos);
    EXPECT_NE(mappings.status().message().find("share=on"), std::string::npos);
}

TEST_F(RamMappings, RefusesAFileThatIsMappedInPart) {
    ASSERT_EQ(ram_->tell("unmap"), "fine");
    EXPECT_TRUE(absl::IsFailedPrecondition(find().status()));
    ASSERT_EQ(ram_->map_again(0, 0, 2 * kChunkBytes), "fine");
    EXPECT_TRUE(absl::IsFailedPrecondition(find().status()));
    ASSERT_EQ(ram_->map_again(0, 2 * kChunkBytes, 2 * kChunkBytes), "fine");
    EXPECT_TRUE(find().ok());
}

TEST_F(RamMappings, OfAProcessThatIsGoneAreNotFound) {
    EXPECT_TRUE(
        absl::IsNotFound(find_ram_mappings(0x3fffffff, {"ram", 1, 1, kMappedBytes}).status()));
}

}  // namespace
}  // namespace godwit
