// A RoundSender over the memory of two blocks, and a destination in the same process.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <random>

#include "engine/source/round_sender.h"
#include "tests/unit/engine/source/loopback_destination.h"

namespace godwit {

using testing::LoopbackDestination;

inline constexpr Duration kRoundLimit = std::chrono::seconds(30);
inline constexpr uint16_t kStreams = 3;
inline constexpr Bytes kFirstBlock = 4 * kChunkBytes;
inline constexpr Bytes kSecondBlock = 3 * kChunkBytes;

inline RamBlock memory_block(const char* name, Bytes size) {
    RamBlock block{.name = name, .path = name, .size = size};
    block.file.reset(::memfd_create(name, MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(block.file.get(), static_cast<off_t>(size)), 0);
    return block;
}

class FakeTracker final : public DirtyTracker {
  public:
    [[nodiscard]] std::string_view name() const override { return "fake"; }
    absl::Status start() override { return absl::OkStatus(); }
    absl::Status collect(PageSet&, PageSet&) override { return absl::OkStatus(); }
    absl::Status rearm(BlockIndex block, PageRange range) override {
        if (on_rearm) on_rearm(block, range);
        return absl::OkStatus();
    }
    absl::Status stop() override { return absl::OkStatus(); }
    std::function<void(BlockIndex, PageRange)> on_rearm;
};

class RoundSenderTest : public ::testing::Test {
  protected:
    RoundSenderTest() {
        blocks_.push_back(memory_block("ram0", kFirstBlock));
        blocks_.push_back(memory_block("ram1", kSecondBlock));
    }
    void connect(LoopbackDestination::OnPage on_page = {}, RoundSender::Options options = {}) {
        destination_.emplace(std::vector<Bytes>{kFirstBlock, kSecondBlock}, std::move(on_page));
        streams_ = &destination_->connect(signals_, kStreams, compression_, limiter_.get());
        auto sender = RoundSender::create(blocks_, *streams_, tracker_, options);
        ASSERT_TRUE(sender.ok()) << sender.status();
        sender_ = *std::move(sender);
    }
    [[nodiscard]] PageSet empty_set() const {
        PageSet set;
        for (const RamBlock& block : blocks_) set.emplace_back(block.page_count());
        return set;
    }
    // Sends a round and waits until the destination has applied it.
    RoundTotals send(const PageSet& set, GuestState guest = GuestState::kRuns,
                     RoundKind kind = RoundKind::kPages) {
        streams_->expect_acks_up_to(round_);
        sender_->begin(set, round_, guest, kind);
        EXPECT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
        const auto confirmed = signals_.wait("the round", SourceSignals::Mind::kAll,
                                             Clock::system().now() + kRoundLimit,
                                             [&](const SourceSignals::Seen& seen) {
                                                 return seen.all_acked(round_, streams_->in_use());
                                             });
        EXPECT_TRUE(confirmed.ok()) << confirmed.status();
        ++round_;
        return sender_->finish().value();
    }
    // A page that names its block, its number and a version; the rest is noise or compressible.
    void write_page(BlockIndex block, PageIndex page, uint64_t version, bool noise) {
        std::array<uint64_t, kPageBytes / 8> content{};
        std::mt19937_64 random(version);
        for (uint64_t& word : content) word = noise ? random() : version;
        content[0] = version;
        content[1] = (uint64_t{block} << 32) + page;
        ASSERT_TRUE(
            write_fully(blocks_[block].file.get(), content.data(), kPageBytes, page * kPageBytes)
                .ok());
    }
    // 64 bytes in the middle of a page that is otherwise as it was.
    void change_word(BlockIndex block, PageIndex page, uint64_t value) {
        const std::array<uint64_t, 8> words{value, value * 3, value * 5, 1, 2, 3, 4, page};
        ASSERT_TRUE(write_fully(blocks_[block].file.get(), words.data(), sizeof words,
                                page * kPageBytes + 2048)
                        .ok());
    }
    void write_zero(BlockIndex block, PageIndex page) {
        const std::vector<std::byte> zero(kPageBytes);
        ASSERT_TRUE(
            write_fully(blocks_[block].file.get(), zero.data(), kPageBytes, page * kPageBytes)
                .ok());
    }
    void expect_same_memory() {
        for (BlockIndex b = 0; b < blocks_.size(); ++b) {
            std::vector<std::byte> ours(blocks_[b].size);
            ASSERT_TRUE(read_fully(blocks_[b].file.get(), ours.data(), ours.size(), 0).ok());
            EXPECT_EQ(std::memcmp(ours.data(), destination_->memory(b).data(), ours.size()), 0)
                << "block " << b;
        }
    }
    // Noise in every page.
    PageSet fill() {
        PageSet set = empty_set();
        for (BlockIndex b = 0; b < blocks_.size(); ++b) {
            set[b].set_range({0, blocks_[b].page_count()});
            for (PageIndex page = 0; page < blocks_[b].page_count(); ++page)
                write_page(b, page, page + 1, true);
        }
        return set;
    }
    [[nodiscard]] BlockIndex random_block(std::mt19937_64& random) const {
        return static_cast<BlockIndex>(random() % blocks_.size());
    }

    std::vector<RamBlock> blocks_;
    FakeTracker tracker_;
    SourceSignals signals_{kStreams};
    std::unique_ptr<RateLimiter> limiter_;
    std::optional<LoopbackDestination> destination_;
    SourceStreams* streams_ = nullptr;
    std::unique_ptr<RoundSender> sender_;
    uint32_t round_ = 0;
    Compression compression_ = Compression::kAuto;
};

}  // namespace godwit
