#include "engine/postcopy/fault_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <set>
#include <sstream>

#include "engine/postcopy/punch_stale.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace godwit {
namespace {

constexpr Bytes kMemoryBytes = 4 * kChunkBytes;

class FaultMemoryTest : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
    }
    void make_ram(const std::string& huge, int views) {
        auto ram = FaultRam::create("tmpfs", "size=64M,huge=" + huge, kMemoryBytes, views);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
    }
    void fill(uint64_t seed, PageIndex first, uint64_t count, uint32_t view = 0) {
        std::vector<std::byte> bytes(count * kPageBytes);
        for (uint64_t i = 0; i < count; ++i)
            fill_content(seed, first + i,
                         std::span(bytes).subspan(i * kPageBytes).first<kPageBytes>());
        const absl::Status status = ram_->memory->fill(0, first, bytes, view, totals_);
        ASSERT_TRUE(status.ok()) << status;
    }
    std::string ask(const std::string& line) { return ram_->ask_guest(line); }

    std::optional<ReservedHugePages> reserved_;  // outlives ram_
    std::unique_ptr<FaultRam> ram_;
    FillTotals totals_;
};

TEST_F(FaultMemoryTest, TellsBlockPageAndViewOfAFault) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    for (size_t view : {0, 1}) {
        const PageIndex page = 700 + view;
        ASSERT_EQ(ask("touch " + std::to_string(view) + " " + std::to_string(page)), "fine");
        const auto fault = ram_->next_fault();
        ASSERT_TRUE(fault.ok()) << fault.status();
        EXPECT_EQ(fault->block, 0u);
        EXPECT_EQ(fault->page, page);
        // Mappings are counted by address, views of the guest as they were made.
        uint64_t begin = 0;
        std::istringstream(ask("where " + std::to_string(view))) >> begin;
        EXPECT_EQ(ram_->memory->mappings(0)[fault->view].address, begin);
        ASSERT_NO_FATAL_FAILURE(fill(5, page, 1, fault->view));
        EXPECT_EQ(ask("content " + std::to_string(view)), "5");
    }
}

TEST_F(FaultMemoryTest, FillsAroundPagesThatAreThere) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ASSERT_NO_FATAL_FAILURE(fill(1, 20, 3));
    totals_ = {};
    ASSERT_NO_FATAL_FAILURE(fill(2, 8, 50));
    EXPECT_EQ(totals_.filled_pages, 47u);
    EXPECT_EQ(totals_.existing_pages, 3u);
    ASSERT_EQ(ask("touch 1 19 20 22 23 57"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");  // (19 + 2) % 7 == 0
    EXPECT_EQ(ask("content 1"), "zero");
    EXPECT_EQ(ask("content 2"), "1");
    EXPECT_EQ(ask("content 3"), "2");
    EXPECT_EQ(ask("content 4"), "2");
}

TEST_F(FaultMemoryTest, ZerosAreFilledAsSuch) {
    ASSERT_NO_FATAL_FAILURE(make_ram("always", 1));
    ASSERT_EQ(ask("touch 0 513"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->memory->fill_zero(0, {512, 612}, 0, totals_).ok());
    EXPECT_EQ(totals_.filled_pages, 100u);
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_TRUE(ram_->is_present(611));
    EXPECT_FALSE(ram_->is_present(612));
}

// Breaker (b): the kernel wakes only whom the page was missing through the mapping that was filled.
TEST_F(FaultMemoryTest, WakesWhoWaitsInAnotherView) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ASSERT_EQ(ask("touch 0 9"), "fine");
    ASSERT_EQ(ask("touch 1 9"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_NO_FATAL_FAILURE(fill(3, 9, 1));
    EXPECT_EQ(ask("content 0"), "3");
    EXPECT_EQ(ask("content 1"), "3");
}

// What the rule is for: filled as the kernel alone does it, the other view waits on.
TEST_F(FaultMemoryTest, WithoutTheWakeTheOtherViewWouldWaitForEver) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ASSERT_EQ(ask("touch 0 9"), "fine");
    ASSERT_EQ(ask("touch 1 9"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->next_fault().ok());
    uint64_t first_view = 0;
    std::istringstream(ask("where 0")) >> first_view;
    std::array<std::byte, kPageBytes> page{};
    fill_content(3, 9, page);
    uffdio_copy argument{.dst = first_view + 9 * kPageBytes,
                         .src = reinterpret_cast<uintptr_t>(page.data()),
                         .len = kPageBytes};
    ASSERT_EQ(::ioctl(ram_->memory->fd(), UFFDIO_COPY, &argument), 0);
    EXPECT_EQ(ask("content 0"), "3");
    EXPECT_EQ(ask("done 1"), "no");
    // A second fill finds the page there, and that wakes all.
    totals_ = {};
    ASSERT_NO_FATAL_FAILURE(fill(3, 9, 1));
    EXPECT_EQ(totals_.existing_pages, 1u);
    EXPECT_EQ(ask("content 1"), "3");
}

// Breaker (a): pwrite of one page into huge tmpfs makes 512 pages present, which never fault.
TEST_F(FaultMemoryTest, APwriteMakesItsNeighboursPresentAndAFillDoesNot) {
    ASSERT_NO_FATAL_FAILURE(make_ram("always", 1));
    const std::vector<std::byte> page(kPageBytes, std::byte{1});
    ASSERT_TRUE(write_fully(ram_->blocks[0].file.get(), page.data(), kPageBytes, 0).ok());
    EXPECT_TRUE(ram_->is_present(5));
    ASSERT_EQ(ask("touch 0 5"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");  // nobody was asked for it
    ASSERT_NO_FATAL_FAILURE(fill(1, 512, 1));
    EXPECT_TRUE(ram_->is_present(512));
    EXPECT_FALSE(ram_->is_present(513));
    ASSERT_EQ(ask("touch 0 517"), "fine");
    const auto fault = ram_->next_fault();
    ASSERT_TRUE(fault.ok()) << fault.status();
    EXPECT_EQ(fault->page, 517u);
    ASSERT_NO_FATAL_FAILURE(fill(2, 517, 1));
    EXPECT_EQ(ask("content 1"), "2");
}

// The other half of (a): a mere read through a mapping that is not QEMU's.
TEST_F(FaultMemoryTest, AReadThroughAMappingMakesAZeroPageAndPreadDoesNot) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 1));
    std::array<std::byte, kPageBytes> page{};
    ASSERT_TRUE(
        read_fully(ram_->blocks[0].file.get(), page.data(), kPageBytes, 3 * kPageBytes).ok());
    EXPECT_FALSE(ram_->is_present(3));
    const auto mapping = Mapping::map_shared(ram_->blocks[0].file.get(), kMemoryBytes);
    ASSERT_TRUE(mapping.ok());
    const std::byte seen = *static_cast<volatile std::byte*>(mapping->data() + 4 * kPageBytes);
    EXPECT_EQ(seen, std::byte{0});
    EXPECT_TRUE(ram_->is_present(4));
    ASSERT_EQ(ask("touch 0 4"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");  // nobody was asked for it
}

TEST_F(FaultMemoryTest, FaultsThatWereReadComeAgainWhenWoken) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ASSERT_EQ(ask("touch 0 1"), "fine");
    ASSERT_EQ(ask("touch 1 2"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->attach().ok());  // the successor of an agent that has died
    ASSERT_TRUE(ram_->memory->register_all().ok());
    std::array<Fault, 8> none;
    EXPECT_EQ(*ram_->memory->read(none), 0u);
    ram_->memory->wake_all();
    std::set<PageIndex> pages;
    pages.insert(ram_->next_fault()->page);
    pages.insert(ram_->next_fault()->page);
    EXPECT_EQ(pages, (std::set<PageIndex>{1, 2}));
    ASSERT_NO_FATAL_FAILURE(fill(4, 1, 2));
    EXPECT_EQ(ask("content 0"), "4");
    EXPECT_EQ(ask("content 1"), "4");
}

TEST_F(FaultMemoryTest, AfterUnregisteringHolesAreZerosAgain) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ASSERT_EQ(ask("touch 0 1"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->memory->unregister_all().ok());
    ASSERT_EQ(ask("touch 1 2"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_EQ(ask("content 1"), "zero");
}

TEST_F(FaultMemoryTest, SaysWhenTheProcessIsGone) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 2));
    ram_->guest->kill_and_reap();
    const std::vector<std::byte> page(kPageBytes);
    EXPECT_TRUE(absl::IsNotFound(ram_->memory->fill(0, 1, page, 0, totals_)));
    EXPECT_TRUE(absl::IsNotFound(ram_->memory->fill_zero(0, {1, 2}, 0, totals_)));
    EXPECT_TRUE(absl::IsNotFound(ram_->memory->register_all()));
    EXPECT_TRUE(ram_->memory->unregister_all().ok());
    EXPECT_EQ(totals_.filled_pages, 0u);
}

TEST_F(FaultMemoryTest, SeesAViewThatCameTooLate) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 1));
    EXPECT_TRUE(ram_->memory->check_mappings().ok());
    ASSERT_EQ(ask("map " + ram_->blocks[0].path + " " + std::to_string(kMemoryBytes)), "fine");
    EXPECT_TRUE(absl::IsFailedPrecondition(ram_->memory->check_mappings()));
    ram_->guest->kill_and_reap();
    EXPECT_TRUE(absl::IsNotFound(ram_->memory->check_mappings()));
}

TEST_F(FaultMemoryTest, RefusesWhatIsNotThere) {
    ASSERT_NO_FATAL_FAILURE(make_ram("never", 1));
    const std::vector<std::byte> bytes(2 * kPageBytes);
    const PageIndex end = kMemoryBytes / kPageBytes;
    FaultMemory& memory = *ram_->memory;
    EXPECT_TRUE(absl::IsInvalidArgument(memory.fill(0, end - 1, bytes, 0, totals_)));
    EXPECT_TRUE(absl::IsInvalidArgument(memory.fill(1, 0, bytes, 0, totals_)));
    EXPECT_TRUE(absl::IsInvalidArgument(
        memory.fill(0, 0, std::span(bytes).first(kPageBytes + 1), 0, totals_)));
    EXPECT_TRUE(absl::IsInvalidArgument(memory.fill_zero(0, {end, end + 1}, 0, totals_)));
    EXPECT_TRUE(absl::IsInvalidArgument(memory.wake(0, {2, 1})));
    EXPECT_TRUE(memory.fill(0, end - 2, bytes, 99, totals_).ok());  // a view is only preferred
}

TEST_F(FaultMemoryTest, SaysThatTheHostHasNoMemory) {
    auto ram = FaultRam::create("tmpfs", "size=4M,huge=never", kMemoryBytes, 1);
    ASSERT_TRUE(ram.ok()) << ram.status();
    const std::vector<std::byte> bytes(kMemoryBytes);
    const absl::Status status = (*ram)->memory->fill(0, 0, bytes, 0, totals_);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_EQ(totals_.filled_pages, 1024u);
}

TEST_F(FaultMemoryTest, HugePagesAreFilledWhole) {
    reserved_.emplace(4);
    if (!reserved_->enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    auto ram = FaultRam::create("hugetlbfs", "pagesize=2M", kMemoryBytes, 2);
    if (!ram.ok()) GTEST_SKIP() << ram.status();
    ram_ = *std::move(ram);
    ASSERT_EQ(ask("touch 0 700"), "fine");
    const auto fault = ram_->next_fault();
    ASSERT_TRUE(fault.ok()) << fault.status();
    EXPECT_EQ(fault->page, 512u);
    const std::vector<std::byte> page(kPageBytes);
    EXPECT_TRUE(absl::IsInvalidArgument(ram_->memory->fill(0, 512, page, 0, totals_)));
    ASSERT_NO_FATAL_FAILURE(fill(6, 512, 512, fault->view));
    EXPECT_EQ(ask("content 0"), "6");
    ASSERT_EQ(ask("touch 1 700"), "fine");
    EXPECT_EQ(ask("content 1"), "6");
    ASSERT_EQ(ask("touch 1 3"), "fine");
    ASSERT_TRUE(ram_->next_fault().ok());
    ASSERT_TRUE(ram_->memory->fill_zero(0, {0, 512}, 1, totals_).ok());
    EXPECT_EQ(ask("content 2"), "zero");
    totals_ = {};
    ASSERT_NO_FATAL_FAILURE(fill(7, 0, 1024));
    EXPECT_EQ(totals_.existing_pages, 1024u);
}

}  // namespace
}  // namespace godwit
