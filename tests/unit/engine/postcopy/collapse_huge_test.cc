#include "engine/postcopy/collapse_huge.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace godwit {
namespace {

constexpr Bytes kCollapseBytes = 4 * kChunkBytes;

// Kilobytes of shared memory that a process maps by 2 MiB.
uint64_t huge_mapped_kb(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(file, line);) {
        uint64_t kb = 0;
        if (std::sscanf(line.c_str(), "ShmemPmdMapped: %lu", &kb) == 1) return kb;
    }
    return 0;
}

class CollapseHuge : public testing::Test {
  protected:
    void make_ram(const std::string& huge) {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
        auto ram = FaultRam::create("tmpfs", "size=64M,huge=" + huge, kCollapseBytes, 2);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
        // Page by page, as a drain leaves it: chunk 0 whole, 1 to three quarters, 2 to one quarter.
        fill(0, 512);
        fill(512, 512 + 384);
        fill(1024, 1024 + 128);
        ASSERT_TRUE(ram_->memory->unregister_all().ok());
    }
    void fill(PageIndex begin, PageIndex end) {
        std::vector<std::byte> bytes((end - begin) * kPageBytes);
        for (PageIndex page = begin; page < end; ++page)
            fill_content(2, page,
                         std::span(bytes).subspan((page - begin) * kPageBytes).first<kPageBytes>());
        FillTotals totals;
        ASSERT_TRUE(ram_->memory->fill(0, begin, bytes, 0, totals).ok());
    }
    std::unique_ptr<FaultRam> ram_;
};

TEST_F(CollapseHuge, MakesHugePagesOfWhatIsAtLeastHalfThere) {
    ASSERT_NO_FATAL_FAILURE(make_ram("always"));
    const pid_t pid = ram_->guest->pid();
    ASSERT_EQ(huge_mapped_kb(pid), 0u);
    const Bytes collapsed = collapse_huge(pid, ram_->blocks[0], ram_->memory->mappings(0));
    EXPECT_EQ(collapsed, 2 * kChunkBytes);
    EXPECT_EQ(huge_mapped_kb(pid), 2 * 2 * kChunkBytes / 1024);  // in both views
    EXPECT_TRUE(ram_->is_present(512 + 400));
    EXPECT_FALSE(ram_->is_present(1024 + 200));
    EXPECT_FALSE(ram_->is_present(1536));
    for (const char* view : {"0", "1"}) {
        const std::string wrong = ram_->ask_guest(std::string("check ") + view + " 2");
        std::istringstream pages(wrong.substr(wrong.find(':') + 1));
        PageIndex first = 0;
        pages >> first;
        EXPECT_GE(first, 512u + 384u);  // what never came is zero, everything else is right
    }
}

TEST_F(CollapseHuge, LeavesOtherMemoryAlone) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never"));
    EXPECT_EQ(collapse_huge(ram_->guest->pid(), ram_->blocks[0], ram_->memory->mappings(0)), 0u);
}

TEST_F(CollapseHuge, EndsWhenItIsToldTo) {
    ASSERT_NO_FATAL_FAILURE(make_ram("always"));
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(collapse_huge(ram_->guest->pid(), ram_->blocks[0], ram_->memory->mappings(0),
                            stop.get_token()),
              0u);
}

}  // namespace
}  // namespace godwit
