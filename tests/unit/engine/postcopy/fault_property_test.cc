// Both halves together: whatever faults, pushes, cuts and deaths come in whatever order, the guest
// finds every page as the source had it, plus what it wrote itself. No page is filled twice.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <random>
#include <thread>

#include "engine/postcopy/page_server.h"
#include "engine/postcopy/pending_pages.h"
#include "engine/postcopy/push_order.h"
#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

#ifndef GODWIT_FAULT_SCHEDULES
#define GODWIT_FAULT_SCHEDULES 25
#endif

namespace godwit {
namespace {

constexpr Bytes kSize = 2 * kChunkBytes;
constexpr PageIndex kPageCount = kSize / kPageBytes;
constexpr uint64_t kOld = 1;
constexpr uint64_t kNew = 2;

// The source: a frozen RAM file, its page server, two pushing threads, one that answers.
class Source : public Asker, public PageSink {
  public:
    Source(std::span<const RamBlock> blocks, FaultServer& server, const PageSet& never_missing)
        : blocks_(blocks),
          server_(server),
          never_missing_(never_missing),
          pending_(blocks),
          pages_(*PageServer::create(blocks, pending_, *this)) {}
    ~Source() override { cut(); }
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    void begin(const MissingPages& missing, uint64_t seed) {
        PageSet all;
        for (const RamBlock& block : blocks_) all.emplace_back(block.page_count());
        PageSet hot = all;
        missing.for_each_chunk([&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
            pending_.add(block, chunk, pages);
            all[block].set(chunk * kPagesPerChunk);
        });
        hot[0].set_range({kPageCount / 2, kPageCount / 2 + 40});
        order_.emplace(all, hot, kPushers);
        answerer_ = std::thread([this] { answer_all(); });
        for (size_t i = 0; i < kPushers; ++i)
            pushers_.emplace_back([this, i, seed] { push(i, seed + i); });
    }
    // The connection goes: nothing of this source arrives any more.
    void cut() {
        {
            const std::lock_guard lock(mutex_);
            cut_ = true;
            changed_.notify_all();
        }
        if (answerer_.joinable()) answerer_.join();
        for (std::thread& pusher : pushers_) pusher.join();
        pushers_.clear();
    }
    [[nodiscard]] const std::string& error() const { return error_; }

    absl::Status ask(BlockIndex block, PageIndex page) override {
        const std::lock_guard lock(mutex_);
        if (cut_) return absl::UnavailableError("cut");
        asked_.push_back({block, page});
        changed_.notify_all();
        return absl::OkStatus();
    }
    absl::Status send(const PageAnswer& answer) override {
        return server_.place(answer.block, answer.chunk, answer.present, answer.zero, answer.bytes,
                             answer.origin);
    }

  private:
    static constexpr size_t kPushers = 2;

    void check(const absl::Status& status) {
        if (status.ok()) return;
        const std::lock_guard lock(mutex_);
        error_ = status.ToString();
    }

    void answer_all() {
        std::unique_lock lock(mutex_);
        while (true) {
            changed_.wait(lock, [&] { return cut_ || !asked_.empty(); });
            if (cut_) return;
            const auto [block, page] = asked_.front();
            asked_.pop_front();
            lock.unlock();
            check(pages_->answer(block, page));
            lock.lock();
        }
    }

    bool is_cut() {
        const std::lock_guard lock(mutex_);
        return cut_;
    }

    void push(size_t stream, uint64_t seed) {
        std::mt19937_64 random(seed);
        for (const ChunkPlace& place : order_->share(stream)) {
            while (true) {
                if (is_cut()) return;
                if (random() % 4 == 0) push_rubbish(place.chunk, random());
                const PageIndex first = place.chunk * kPagesPerChunk;
                ChunkMask pages{};
                if (random() % 3 == 0) {
                    pages = pending_.take_chunk(place.block, place.chunk);
                } else {
                    pages = pending_.take_following(place.block, first + random() % 512, 64, 32);
                }
                send_pages(place.block, place.chunk, pages);
                if (random() % 8 == 0) break;  // the rest comes with the last pass
            }
        }
        for (const ChunkPlace& place : order_->share(stream))
            send_pages(place.block, place.chunk, pending_.take_chunk(place.block, place.chunk));
    }

    void send_pages(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        if (is_cut()) return;  // taken and lost, as pages on the wire are
        std::vector<std::byte> raw;
        ChunkMask zero{};
        for (PageIndex page = 0; page < kPagesPerChunk; ++page) {
            if ((pages[page / 64] >> (page % 64) & 1) == 0) continue;
            std::array<std::byte, kPageBytes> bytes{};
            check(read_fully(blocks_[block].file.get(), bytes.data(), kPageBytes,
                             chunk * kChunkBytes + page * kPageBytes));
            raw.insert(raw.end(), bytes.begin(), bytes.end());
        }
        check(server_.place(block, chunk, pages, zero, raw, PageOrigin::kPush));
    }

    // Old content for pages that were never missing: it must be dropped.
    void push_rubbish(ChunkIndex chunk, uint64_t random) {
        const PageIndex page = chunk * kPagesPerChunk + random % kPagesPerChunk;
        if (!never_missing_[0].test(page)) return;
        std::array<std::byte, kPageBytes> bytes{};
        bytes.fill(std::byte{0xee});
        check(server_.place(0, chunk, one_page(page), {}, bytes, PageOrigin::kPush));
    }

    std::span<const RamBlock> blocks_;
    FaultServer& server_;
    const PageSet& never_missing_;
    PendingPages pending_;
    std::unique_ptr<PageServer> pages_;
    std::optional<PushOrder> order_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::pair<BlockIndex, PageIndex>> asked_;
    bool cut_ = false;
    std::string error_;
    std::thread answerer_;
    std::vector<std::thread> pushers_;
};

enum class Trouble { kNone, kCuts, kDeaths };

class FaultProperty : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
        auto ram = FaultRam::create("tmpfs", "size=128M,huge=" + std::string(GetParam()), kSize, 2);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
        const std::string path = ram_->mount.path() + "/source";
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(kSize)), 0);
        auto block = open_ram_block("ram", path, ram_->blocks[0].backing);
        ASSERT_TRUE(block.ok()) << block.status();
        source_blocks_.push_back(*std::move(block));
        for (PageIndex page = 0; page < kPageCount; ++page) put(source_blocks_[0], kNew, page);
    }

    static void put(const RamBlock& block, uint64_t seed, PageIndex page) {
        std::array<std::byte, kPageBytes> bytes{};
        fill_content(seed, page, bytes);
        ASSERT_TRUE(
            write_fully(block.file.get(), bytes.data(), kPageBytes, page * kPageBytes).ok());
    }

    // Valid pages are there; stale ones were, with old content, and are punched.
    void prepare(std::mt19937_64& random, MissingPages& missing, PageSet& never_missing) {
        PageBitmap stale(kPageCount);
        const int density = static_cast<int>(1 + random() % 100);
        for (PageIndex page = 0; page < kPageCount; ++page)
            if (static_cast<int>(random() % 100) < density) stale.set(page);
        for (PageIndex page = 0; page < kPageCount; ++page) {
            put(ram_->blocks[0], stale.test(page) ? kOld : kNew, page);
            if (!stale.test(page)) never_missing[0].set(page);
        }
        for (ChunkIndex chunk = 0; chunk < kSize / kChunkBytes; ++chunk)
            ASSERT_TRUE(ram_->make_stale(missing, chunk, chunk_mask(stale, chunk)).ok());
    }

    void run(uint64_t seed, Trouble trouble) {
        std::mt19937_64 random(seed);
        ASSERT_TRUE(ram_->memory->unregister_all().ok());
        auto made = ram_->make_missing();
        ASSERT_TRUE(made.ok()) << made.status();
        auto missing = std::make_unique<MissingPages>(*std::move(made));
        PageSet never_missing{PageBitmap(kPageCount)};
        ASSERT_NO_FATAL_FAILURE(prepare(random, *missing, never_missing));
        ASSERT_TRUE(ram_->memory->register_all().ok());
        auto server = *FaultServer::create(*ram_->memory, *missing);
        ASSERT_TRUE(server->start(FaultMode::kServe).ok());
        const size_t threads = 1 + random() % 4;
        ASSERT_EQ(ram_->ask_guest("play " + std::to_string(threads) + " " + std::to_string(seed) +
                                  " " + std::to_string(kNew) + " 600"),
                  "fine");
        const int troubles = trouble == Trouble::kNone ? 0 : static_cast<int>(1 + random() % 3);
        for (int i = 0; i <= troubles; ++i) {
            auto source = std::make_unique<Source>(source_blocks_, *server, never_missing);
            source->begin(*missing, random());
            server->connection_restored(*source);
            const uint64_t enough = i == troubles ? 0 : missing->count() * (random() % 100) / 100;
            while (missing->count() > enough) std::this_thread::yield();
            server->connection_lost();
            source->cut();
            ASSERT_EQ(source->error(), "");
            if (trouble != Trouble::kDeaths || i == troubles) continue;
            server.reset();
            missing.reset();
            ASSERT_TRUE(ram_->attach().ok());
            auto opened = ram_->open_missing();
            ASSERT_TRUE(opened.ok()) << opened.status();
            missing = std::make_unique<MissingPages>(*std::move(opened));
            server = *FaultServer::create(*ram_->memory, *missing);
            ASSERT_TRUE(server->start(FaultMode::kServe).ok());
        }
        ASSERT_EQ(ram_->ask_guest("played"), "fine");
        ASSERT_EQ(ram_->ask_guest("check 0 " + std::to_string(kNew)), "fine");
        ASSERT_EQ(ram_->ask_guest("check 1 " + std::to_string(kNew)), "fine");
        EXPECT_EQ(server->open_count(), 0u);
        EXPECT_TRUE(server->stop().ok());
    }

    void run_all(Trouble trouble, uint64_t first_seed) {
        for (uint64_t seed = first_seed; seed < first_seed + GODWIT_FAULT_SCHEDULES; ++seed) {
            ASSERT_NO_FATAL_FAILURE(run(seed, trouble)) << "seed " << seed;
            ASSERT_FALSE(HasFailure()) << "seed " << seed;
        }
    }

    std::unique_ptr<FaultRam> ram_;
    std::vector<RamBlock> source_blocks_;
};

TEST_P(FaultProperty, EveryPageIsRightInTheEnd) { run_all(Trouble::kNone, 1'000); }
TEST_P(FaultProperty, AlsoWhenConnectionsAreLost) { run_all(Trouble::kCuts, 2'000); }
TEST_P(FaultProperty, AlsoWhenTheAgentDies) { run_all(Trouble::kDeaths, 3'000); }

INSTANTIATE_TEST_SUITE_P(Tmpfs, FaultProperty, testing::Values("never", "always"),
                         [](const auto& test_case) { return std::string(test_case.param); });

}  // namespace
}  // namespace godwit
