#include "engine/postcopy/page_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/engine/handover/scratch_directory.h"
#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace godwit {
using testing::ScratchDirectory;

namespace {

struct Sent {
    PageAnswer answer;
    std::vector<std::byte> bytes;
};

class RecordingSink : public PageSink {
  public:
    absl::Status send(const PageAnswer& answer) override {
        sent.push_back({answer, {answer.bytes.begin(), answer.bytes.end()}});
        return next;
    }
    std::vector<Sent> sent;
    absl::Status next;
};

class PageServerTest : public ::testing::Test {
  protected:
    static constexpr Bytes kSize = 2 * kChunkBytes;
    static constexpr uint64_t kSeed = 3;

    void SetUp() override {
        const std::string path = directory_.path() + "/ram";
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
        auto block = open_ram_block("ram", path, Backing::kTmpfs4k);
        ASSERT_TRUE(block.ok()) << block.status();
        blocks_.push_back(*std::move(block));
        std::array<std::byte, kPageBytes> bytes{};
        for (PageIndex page = 0; page < kSize / kPageBytes; ++page) {
            fill_content(kSeed, page, bytes);
            ASSERT_TRUE(
                write_fully(blocks_[0].file.get(), bytes.data(), kPageBytes, page * kPageBytes)
                    .ok());
        }
        pending_.emplace(blocks_);
        auto server = PageServer::create(blocks_, *pending_, sink_);
        ASSERT_TRUE(server.ok()) << server.status();
        server_ = *std::move(server);
    }

    // That an answer has the source's content for its pages.
    static void expect_right(const Sent& sent) {
        std::span<const std::byte> rest(sent.bytes);
        for (PageIndex page = 0; page < kPagesPerChunk; ++page) {
            const bool zero = (sent.answer.zero[page / 64] >> (page % 64) & 1) != 0;
            const bool present = (sent.answer.present[page / 64] >> (page % 64) & 1) != 0;
            const PageIndex index = sent.answer.chunk * kPagesPerChunk + page;
            if (!present) continue;
            ASSERT_EQ(zero, content_word(kSeed, index, 0) == 0) << index;
            if (zero) continue;
            std::array<std::byte, kPageBytes> wanted{};
            fill_content(kSeed, index, wanted);
            ASSERT_GE(rest.size(), kPageBytes);
            ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), rest.begin())) << index;
            rest = rest.subspan(kPageBytes);
        }
        EXPECT_TRUE(rest.empty());
    }

    ScratchDirectory directory_;
    std::vector<RamBlock> blocks_;
    std::optional<PendingPages> pending_;
    RecordingSink sink_;
    std::unique_ptr<PageServer> server_;
};

TEST_F(PageServerTest, ThePageThatWasAskedForLeavesFirstAndAlone) {
    pending_->add(0, 1, all_pages());
    ASSERT_TRUE(server_->answer(0, 600).ok());
    ASSERT_EQ(sink_.sent.size(), 2u);
    EXPECT_EQ(sink_.sent[0].answer.origin, PageOrigin::kDemand);
    EXPECT_EQ(sink_.sent[0].answer.chunk, 1u);
    EXPECT_EQ(sink_.sent[0].answer.present, one_page(600));
    EXPECT_EQ(sink_.sent[1].answer.origin, PageOrigin::kPrepaging);
    EXPECT_EQ(sink_.sent[1].answer.present, some_pages({601, 602, 603, 604, 605, 606, 607, 608}));
    for (const Sent& sent : sink_.sent) expect_right(sent);
    EXPECT_EQ(pending_->count(), 512u - 9);
}

TEST_F(PageServerTest, SendsNothingAlongThatIsNotPending) {
    pending_->add(0, 0, some_pages({12, 15}));
    ASSERT_TRUE(server_->answer(0, 10).ok());
    ASSERT_EQ(sink_.sent.size(), 2u);
    EXPECT_EQ(sink_.sent[1].answer.present, some_pages({12, 15}));
    for (const Sent& sent : sink_.sent) expect_right(sent);
    EXPECT_EQ(pending_->count(), 0u);
    sink_.sent.clear();
    ASSERT_TRUE(server_->answer(0, 17).ok());
    EXPECT_EQ(sink_.sent.size(), 1u);
}

TEST_F(PageServerTest, SendsAPageAgain) {
    ASSERT_TRUE(server_->answer(0, 1023).ok());
    ASSERT_TRUE(server_->answer(0, 1023).ok());
    ASSERT_EQ(sink_.sent.size(), 2u);
    expect_right(sink_.sent[1]);
}

TEST_F(PageServerTest, GoesOnBehindTheEndOfAChunk) {
    pending_->add(0, 0, all_pages());
    pending_->add(0, 1, all_pages());
    ASSERT_TRUE(server_->answer(0, 511).ok());
    ASSERT_EQ(sink_.sent.size(), 2u);
    EXPECT_EQ(sink_.sent[0].answer.chunk, 0u);
    EXPECT_EQ(sink_.sent[1].answer.chunk, 1u);
    for (const Sent& sent : sink_.sent) expect_right(sent);
}

TEST_F(PageServerTest, RefusesPagesThatDoNotExist) {
    EXPECT_TRUE(absl::IsInvalidArgument(server_->answer(0, 1024)));
    EXPECT_TRUE(absl::IsInvalidArgument(server_->answer(1, 0)));
    EXPECT_TRUE(absl::IsInvalidArgument(server_->answer(0, ~PageIndex{0})));
    EXPECT_TRUE(sink_.sent.empty());
}

TEST_F(PageServerTest, PassesOnWhatTheStreamSays) {
    pending_->add(0, 0, all_pages());
    sink_.next = absl::UnavailableError("cut");
    EXPECT_TRUE(absl::IsUnavailable(server_->answer(0, 1)));
    EXPECT_EQ(sink_.sent.size(), 1u);
}

TEST_F(PageServerTest, AChunkOnHugetlbfsLeavesWhole) {
    blocks_[0].backing = Backing::kHugetlb2M;  // as far as it matters to the source
    pending_->add(0, 1, all_pages());
    ASSERT_TRUE(server_->answer(0, 700).ok());
    ASSERT_EQ(sink_.sent.size(), 1u);
    EXPECT_EQ(sink_.sent[0].answer.present, all_pages());
    EXPECT_EQ(sink_.sent[0].answer.origin, PageOrigin::kDemand);
    expect_right(sink_.sent[0]);
    EXPECT_EQ(pending_->count(), 0u);
}

}  // namespace
}  // namespace godwit
