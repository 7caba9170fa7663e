#include "engine/base/ram_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <random>
#include <vector>

#include "engine/base/bus_error_guard.h"

namespace godwit {
namespace {

constexpr Bytes kSize = 2 * kChunkBytes;
constexpr uint64_t kPages = kSize / kPageBytes;

// By mapping and by pread.
class RamReaderTest : public testing::TestWithParam<Backing> {
  protected:
    void SetUp() override {
        RamBlock block{.name = "ram0", .size = kSize, .backing = GetParam()};
        block.file = UniqueFd(::memfd_create("ram", MFD_CLOEXEC));
        ASSERT_EQ(::ftruncate(block.file.get(), kSize), 0);
        blocks_.push_back(std::move(block));
        // A third of the pages is noise, a third zeros, a third holes.
        std::mt19937_64 random(1);
        for (PageIndex page = 0; page < kPages; ++page) {
            const uint64_t kind = random() % 3;
            std::byte* bytes = &memory_[page * kPageBytes];
            for (size_t i = 0; kind == 0 && i < kPageBytes; ++i)
                bytes[i] = static_cast<std::byte>(random());
            if (kind < 2) {
                ASSERT_TRUE(
                    write_fully(blocks_[0].file.get(), bytes, kPageBytes, page * kPageBytes).ok());
            }
        }
        reader_.emplace(RamReader::create(blocks_).value());
    }
    [[nodiscard]] std::span<const std::byte> page(PageIndex index) const {
        return std::span(memory_).subspan(index * kPageBytes, kPageBytes);
    }
    [[nodiscard]] blkcnt_t allocated() const {
        struct stat status {};
        EXPECT_EQ(::fstat(blocks_[0].file.get(), &status), 0);
        return status.st_blocks;
    }

    std::vector<std::byte> memory_ = std::vector<std::byte>(kSize);
    std::vector<RamBlock> blocks_;
    std::optional<RamReader> reader_;
};

TEST_P(RamReaderTest, LeavesWhatIsToBeKeptOneAfterAnotherAndFillsNoHole) {
    std::mt19937_64 random(2);
    const blkcnt_t before = allocated();
    for (size_t round = 0; round < 500; ++round) {
        const PageIndex begin = random() % kPages;
        // Short runs are those without a hole.
        const PageRange run{begin, std::min(kPages, begin + 1 + random() % (round % 2 ? 3 : 400))};
        const uint64_t drop_one_in = 1 + random() % 5;
        std::vector<std::byte> expected;
        PageIndex next = run.begin;
        std::vector<std::byte> to(run.count() * kPageBytes);
        const auto kept = reader_->read(0, run, to, [&](PageIndex index, const Hash128& hash) {
            EXPECT_EQ(index, next++);
            const bool zero = is_zero(page(index));
            EXPECT_EQ(hash, zero ? Hash128{} : hash_bytes(page(index)));
            const bool keep = random() % drop_one_in == 0;
            if (keep && !zero)
                expected.insert(expected.end(), page(index).begin(), page(index).end());
            return keep;
        });
        ASSERT_TRUE(kept.ok()) << kept.status();
        EXPECT_EQ(next, run.end);
        ASSERT_EQ(*kept, expected.size());
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), to.begin()));
    }
    EXPECT_EQ(allocated(), before);
}

TEST_P(RamReaderTest, AFileThatIsTooShortIsAnErrorAndNotTheEnd) {
    ASSERT_EQ(::ftruncate(blocks_[0].file.get(), kChunkBytes), 0);
    std::vector<std::byte> to(kChunkBytes);
    const auto keep = [](PageIndex, const Hash128&) { return true; };
    EXPECT_FALSE(reader_->read(0, {kPages / 2, kPages}, to, keep).ok());
    EXPECT_TRUE(reader_->read(0, {0, 10}, to, keep).ok());
}

INSTANTIATE_TEST_SUITE_P(Backings, RamReaderTest,
                         testing::Values(Backing::kTmpfsHuge, Backing::kTmpfs4k,
                                         Backing::kHugetlb2M),
                         [](auto& backing) {
                             if (backing.param == Backing::kHugetlb2M) return "Copied";
                             return backing.param == Backing::kTmpfsHuge ? "Mapped" : "MappedSmall";
                         });

TEST(BusErrorGuard, APageThatCantBeReadReadsAsZerosAndIsTold) {
    const UniqueFd file(::memfd_create("ram", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), 2 * kPageBytes), 0);
    const std::byte one{1};
    ASSERT_TRUE(write_fully(file.get(), &one, 1, 0).ok());
    const Mapping mapping = Mapping::read_shared(file.get(), 2 * kPageBytes).value();
    ASSERT_EQ(::ftruncate(file.get(), kPageBytes), 0);
    const volatile std::byte* bytes = mapping.data();
    {
        const BusErrorGuard guard(mapping.bytes());
        EXPECT_TRUE(bytes[0] == one);
        EXPECT_FALSE(guard.hit());
        EXPECT_TRUE(bytes[kPageBytes] == std::byte{0});
        EXPECT_TRUE(guard.hit());
        EXPECT_TRUE(bytes[0] == one);
    }
    const BusErrorGuard again(mapping.bytes());
    EXPECT_FALSE(again.hit());
}

TEST(BusErrorGuardDeathTest, AnywhereElseItEndsTheProcessAsBefore) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    const UniqueFd file(::memfd_create("ram", MFD_CLOEXEC));
    const Mapping mapping = Mapping::read_shared(file.get(), 2 * kPageBytes).value();
    const volatile std::byte* bytes = mapping.data();
    EXPECT_EXIT(
        {
            const BusErrorGuard guard(mapping.bytes().first(kPageBytes));
            ASSERT_TRUE(bytes[kPageBytes] == std::byte{0});
        },
        testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace godwit
