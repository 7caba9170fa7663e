#include "engine/postcopy/fault_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace godwit {
namespace {

constexpr Bytes kSize = 4 * kChunkBytes;
using Requests = std::vector<RecordingAsker::Request>;

class FaultServerTest : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
    }
    void TearDown() override {
        server_.reset();
        missing_.reset();
        ram_.reset();
    }

    void make_ram(const std::string& type = "tmpfs",
                  const std::string& options = "size=64M,huge=never", Bytes size = kSize,
                  int views = 2) {
        auto ram = FaultRam::create(type, options, size, views);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
        auto missing = MissingPages::create(missing_path(), ram_->blocks);
        ASSERT_TRUE(missing.ok()) << missing.status();
        missing_.emplace(*std::move(missing));
    }
    virtual std::string missing_path() const { return ram_->missing_path(); }
    void start(FaultMode mode) {
        auto server = FaultServer::create(*ram_->memory, *missing_);
        ASSERT_TRUE(server.ok()) << server.status();
        server_ = *std::move(server);
        ASSERT_TRUE(server_->start(mode).ok());
    }
    void start_serving() {
        ASSERT_NO_FATAL_FAILURE(start(FaultMode::kServe));
        server_->connection_restored(asker_);
    }
    // As after a restart: nothing but the file and the userfaultfd are left.
    void restart() {
        server_.reset();
        missing_.reset();
        ASSERT_TRUE(ram_->attach().ok());
        ASSERT_TRUE(ram_->memory->register_all().ok());
        auto missing = MissingPages::open(missing_path(), ram_->blocks);
        ASSERT_TRUE(missing.ok()) << missing.status();
        missing_.emplace(*std::move(missing));
        ASSERT_NO_FATAL_FAILURE(start(FaultMode::kServe));
    }
    void make_stale(ChunkIndex chunk, const ChunkMask& pages) {
        ASSERT_TRUE(ram_->make_stale(*missing_, chunk, pages).ok());
    }
    absl::Status place(uint64_t seed, ChunkIndex chunk, const ChunkMask& pages,
                       PageOrigin origin = PageOrigin::kDemand) {
        return ram_->place(*server_, seed, chunk, pages, origin);
    }
    std::string ask(const std::string& line) { return ram_->ask_guest(line); }

    std::unique_ptr<FaultRam> ram_;
    std::optional<MissingPages> missing_;
    RecordingAsker asker_;
    std::unique_ptr<FaultServer> server_;
};

TEST_F(FaultServerTest, AnswersWithZerosWhatIsNotMissing) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 1"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_EQ(server_->stats().local_zero_pages, 1u);
    EXPECT_EQ(asker_.requests(), Requests{});
    EXPECT_EQ(count_pages(server_->take_zeroed()), 0u);  // not under kHold
}

TEST_F(FaultServerTest, AsksOnceForAPageThatManyWaitFor) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(1, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 600"), "fine");
    ASSERT_EQ(asker_.wait_for(1), (Requests{{0, 600}}));
    ASSERT_EQ(ask("touch 1 600"), "fine");
    ASSERT_EQ(ask("touch 0 600 603"), "fine");
    ASSERT_EQ(asker_.wait_for(2), (Requests{{0, 600}, {0, 603}}));
    EXPECT_EQ(server_->open_count(), 2u);
    EXPECT_TRUE(server_->oldest_open().has_value());
    ASSERT_TRUE(place(1, 1, some_pages({600, 603})).ok());
    for (const char* touch : {"0", "1", "2", "3"})
        EXPECT_EQ(ask(std::string("content ") + touch), "1");
    const FaultStats stats = server_->stats();
    EXPECT_EQ(stats.waited_fault_count, 2u);
    EXPECT_EQ(stats.demand_pages, 2u);
    EXPECT_EQ(stats.asked_pages, 2u);
    EXPECT_EQ(stats.percentiles().count, 2u);
    EXPECT_EQ(stats.stall_began_ns, 0u);
    EXPECT_GT(stats.stall_ns, 0u);
    EXPECT_EQ(server_->open_count(), 0u);
    EXPECT_EQ(missing_->count(), 510u);
}

TEST_F(FaultServerTest, DropsWhatIsNotMissing) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, some_pages({10, 11, 12})));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_TRUE(place(1, 0, some_pages({9, 10}), PageOrigin::kPush).ok());
    ASSERT_TRUE(place(2, 0, some_pages({10, 11}), PageOrigin::kPrepaging).ok());
    EXPECT_EQ(server_->stats().push_pages, 1u);
    EXPECT_EQ(server_->stats().prepaging_pages, 1u);
    EXPECT_EQ(server_->stats().duplicate_pages, 2u);
    ASSERT_EQ(ask("touch 0 9 10 11"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_EQ(ask("content 1"), "1");
    EXPECT_EQ(ask("content 2"), "2");
    EXPECT_EQ(missing_->chunk(0, 0), one_page(12));
}

TEST_F(FaultServerTest, LeavesZerosAsHolesUntilSomebodyWantsThem) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, some_pages({6, 13, 20})));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 6"), "fine");
    ASSERT_EQ(asker_.wait_for(1), (Requests{{0, 6}}));
    ASSERT_TRUE(place(1, 0, some_pages({6, 13})).ok());  // zeros by their content
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_FALSE(ram_->is_present(13));
    EXPECT_EQ(missing_->chunk(0, 0), one_page(20));
    ASSERT_EQ(ask("touch 1 13"), "fine");
    EXPECT_EQ(ask("content 1"), "zero");
    EXPECT_EQ(asker_.requests().size(), 1u);
}

TEST_F(FaultServerTest, APageThatTheGuestGaveBackIsZero) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, one_page(8)));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_TRUE(place(1, 0, one_page(8)).ok());
    ASSERT_EQ(::fallocate(ram_->blocks[0].file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          8 * kPageBytes, kPageBytes),
              0);
    ASSERT_TRUE(place(1, 0, one_page(8)).ok());  // late: it must not come back
    ASSERT_EQ(ask("touch 0 8"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_EQ(asker_.requests(), Requests{});
}

// A page comes twice at once, alone and with others, and as soon as it is there the guest gives it
// back: the second copy must not fill the hole with what the page held once.
TEST_F(FaultServerTest, APageThatWasGivenBackIsNotFilledByALateCopy) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(start_serving());
    constexpr uint64_t kRounds = 1500;
    const ChunkMask group = some_pages({0, 2, 4, 6, 8, 10, 12, 14});
    const std::vector<std::byte> bytes(8 * kPageBytes, std::byte{1});
    std::atomic<uint64_t> turn{0};
    std::atomic<uint64_t> placed{0};
    std::atomic<bool> failed{false};
    const auto place_each = [&](const ChunkMask& pages, uint64_t spins) {
        const size_t size = count_pages(pages) * kPageBytes;
        for (uint64_t round = 1; round <= kRounds; ++round) {
            while (turn < round) std::this_thread::yield();
            for (uint64_t i = 0; i < spins * (round % 16); ++i) (void)turn.load();
            if (!server_->place(0, 0, pages, {}, std::span(bytes).first(size), PageOrigin::kPush)
                     .ok())
                failed = true;
            ++placed;
        }
    };
    std::thread with_others([&] { place_each(group, 0); });
    std::thread alone([&] { place_each(one_page(14), 1000); });
    uint64_t came_back = 0;
    const auto punch = [&](PageIndex page, uint64_t count) {
        EXPECT_EQ(
            ::fallocate(ram_->blocks[0].file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(page * kPageBytes),
                        static_cast<off_t>(count * kPageBytes)),
            0);
    };
    for (uint64_t round = 1; round <= kRounds; ++round) {
        missing_->set(0, 0, group);
        turn = round;
        while (missing_->test(0, 14)) std::this_thread::yield();
        punch(14, 1);
        while (placed < 2 * round) std::this_thread::yield();
        came_back += ram_->is_present(14) ? 1 : 0;
        punch(0, 16);
    }
    with_others.join();
    alone.join();
    EXPECT_FALSE(failed);
    EXPECT_EQ(came_back, 0u);
    EXPECT_EQ(missing_->count(), 0u);
}

// The page comes between the look at its bit and the entry in the table: nobody but the fault's own
// second look can know. (A zero page wakes nobody by itself.)
TEST_F(FaultServerTest, NoFaultIsForgottenWhosePageComesAtThatMoment) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(start_serving());
    constexpr PageIndex kRounds = 2000;
    uint64_t& fault_count = missing_->stats().fault_count;
    for (PageIndex page = 0; page < kRounds; ++page) {
        const ChunkIndex chunk = page / kPagesPerChunk;
        missing_->set(0, chunk, one_page(page));
        const uint64_t before = server_->stats().fault_count;
        ASSERT_EQ(ask("touch 0 " + std::to_string(page)), "fine");
        while (std::atomic_ref<uint64_t>(fault_count).load() == before) {
        }
        ASSERT_TRUE(
            server_->place(0, chunk, one_page(page), one_page(page), {}, PageOrigin::kPush).ok());
        ASSERT_EQ(ask("content " + std::to_string(page)), "zero") << page;
        ASSERT_EQ(server_->open_count(), 0u);
    }
}

TEST_F(FaultServerTest, RefusesAnswersThatNobodyCanHaveMeant) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    const std::vector<std::byte> page(kPageBytes);
    const auto put = [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                         const ChunkMask& zero, std::span<const std::byte> raw) {
        return server_->place(block, chunk, present, zero, raw, PageOrigin::kDemand);
    };
    EXPECT_TRUE(absl::IsInvalidArgument(put(1, 0, one_page(1), {}, page)));
    EXPECT_TRUE(absl::IsInvalidArgument(put(0, 4, one_page(1), {}, page)));
    EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, one_page(1), one_page(2), page)));
    EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, one_page(1), {}, {})));
    EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, some_pages({1, 2}), {}, page)));
    EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, one_page(1), one_page(1), page)));
    EXPECT_EQ(missing_->count(), 512u);
    EXPECT_FALSE(ram_->is_present(1));
}

TEST_F(FaultServerTest, RemembersWhatItAnsweredBeforeTheStalePagesWereKnown) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, one_page(3)));  // punched early
    ASSERT_NO_FATAL_FAILURE(start(FaultMode::kHold));
    ASSERT_EQ(ask("touch 0 3 4"), "fine");
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_EQ(ask("content 1"), "zero");
    server_->serve();
    const PageSet zeroed = server_->take_zeroed();
    EXPECT_EQ(count_pages(zeroed), 2u);
    EXPECT_TRUE(zeroed[0].test(3) && zeroed[0].test(4));
    EXPECT_EQ(count_pages(server_->take_zeroed()), 0u);
    ASSERT_NO_FATAL_FAILURE(make_stale(0, chunk_mask(zeroed[0], 0)));
    server_->connection_restored(asker_);
    ASSERT_EQ(ask("touch 0 3"), "fine");
    ASSERT_EQ(asker_.wait_for(1), (Requests{{0, 3}}));
    ASSERT_TRUE(place(1, 0, some_pages({3, 4})).ok());
    EXPECT_EQ(ask("content 2"), "1");
}

TEST_F(FaultServerTest, AsksAnewOnANewConnection) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 100"), "fine");
    ASSERT_EQ(asker_.wait_for(1).size(), 1u);
    const auto first_seen = server_->oldest_open();
    server_->connection_lost();
    ASSERT_EQ(ask("touch 1 200"), "fine");
    while (server_->open_count() < 2) std::this_thread::yield();
    RecordingAsker second;
    server_->connection_restored(second);
    Requests requests = second.wait_for(2);
    std::sort(requests.begin(), requests.end(),
              [](const auto& a, const auto& b) { return a.page < b.page; });
    EXPECT_EQ(requests, (Requests{{0, 100}, {0, 200}}));
    EXPECT_EQ(server_->oldest_open(), first_seen);
    ASSERT_TRUE(place(1, 0, some_pages({100, 200})).ok());
    EXPECT_EQ(ask("content 0"), "1");
    EXPECT_EQ(ask("content 1"), "1");
    EXPECT_EQ(asker_.requests().size(), 1u);
}

TEST_F(FaultServerTest, ARequestThatCouldNotBeSentIsSentOnTheNextConnection) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    asker_.break_connection();
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 1 2"), "fine");
    while (server_->open_count() < 2) std::this_thread::yield();
    server_->connection_lost();
    RecordingAsker second;
    server_->connection_restored(second);
    EXPECT_EQ(second.wait_for(2).size(), 2u);
    EXPECT_TRUE(server_->failure().ok());
    ASSERT_TRUE(place(1, 0, some_pages({1, 2})).ok());
    EXPECT_EQ(ask("content 0"), "1");
}

TEST_F(FaultServerTest, ASuccessorGoesOnWithWhatWasLeft) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_TRUE(place(1, 0, some_pages({1, 2, 3}), PageOrigin::kPush).ok());
    ASSERT_EQ(ask("touch 0 3 4"), "fine");
    ASSERT_EQ(ask("touch 1 5"), "fine");
    ASSERT_EQ(asker_.wait_for(2).size(), 2u);
    const uint64_t began = server_->stats().stall_began_ns;
    EXPECT_NE(began, 0u);
    ASSERT_NO_FATAL_FAILURE(restart());
    EXPECT_EQ(missing_->count(), 509u);
    RecordingAsker second;
    server_->connection_restored(second);
    EXPECT_EQ(second.wait_for(2).size(), 2u);
    EXPECT_EQ(server_->stats().stall_began_ns, began);  // one stall, not two
    ASSERT_TRUE(place(1, 0, all_pages(), PageOrigin::kPush).ok());
    for (const char* touch : {"0", "1", "2"}) EXPECT_EQ(ask(std::string("content ") + touch), "1");
    EXPECT_EQ(missing_->count(), 0u);
    EXPECT_EQ(server_->stats().push_pages, 512u);
    EXPECT_EQ(server_->stats().duplicate_pages, 3u);
    EXPECT_TRUE(ram_->memory->unregister_all().ok());
    EXPECT_TRUE(server_->stop().ok());
}

// Its agent died between the copy and the bit: what the guest has written since is not lost.
TEST_F(FaultServerTest, APageThatIsThereThoughItsBitIsSetKeepsItsContent) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, one_page(7)));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_TRUE(place(3, 0, one_page(7)).ok());
    missing_->set(0, 0, one_page(7));
    ASSERT_TRUE(place(4, 0, one_page(7)).ok());
    EXPECT_EQ(missing_->count(), 0u);
    EXPECT_EQ(server_->stats().duplicate_pages, 1u);
    ASSERT_EQ(ask("touch 0 7"), "fine");
    EXPECT_EQ(ask("content 0"), "3");
}

TEST_F(FaultServerTest, MoreFaultsThanItCanRememberComeLater) {
    constexpr Bytes kLargeSize = 16 * kChunkBytes;
    ASSERT_NO_FATAL_FAILURE(make_ram("tmpfs", "size=64M,huge=never", kLargeSize, 1));
    for (ChunkIndex chunk = 0; chunk < 16; ++chunk)
        ASSERT_NO_FATAL_FAILURE(make_stale(chunk, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    constexpr size_t kFaults = FaultTable::kLimit + 100;
    std::string line = "touch 0";
    for (size_t i = 0; i < kFaults; ++i) line += " " + std::to_string(i);
    ASSERT_EQ(ask(line), "fine");
    EXPECT_EQ(asker_.wait_for(FaultTable::kLimit).size(), FaultTable::kLimit);
    while (server_->stats().fault_count < kFaults) std::this_thread::yield();
    EXPECT_EQ(server_->open_count(), FaultTable::kLimit);
    const Requests first = asker_.requests();
    ASSERT_EQ(first.size(), FaultTable::kLimit);
    const auto place_request = [&](const RecordingAsker::Request& request) {
        ASSERT_TRUE(place(1, request.page / kPagesPerChunk, one_page(request.page)).ok());
    };
    for (const auto& request : first) place_request(request);
    const Requests all = asker_.wait_for(kFaults);
    ASSERT_EQ(all.size(), kFaults);
    for (size_t i = first.size(); i < all.size(); ++i) place_request(all[i]);
    for (size_t i = 0; i < kFaults; i += 37)
        EXPECT_EQ(ask("content " + std::to_string(i)), (i + 1) % 7 == 0 ? "zero" : "1");
    EXPECT_EQ(server_->open_count(), 0u);
}

// The file system of the RAM is full, and later it is not.
TEST_F(FaultServerTest, AFaultThatNoMemoryIsLeftForIsAnsweredWhenThereIsSome) {
    ASSERT_NO_FATAL_FAILURE(make_ram("tmpfs", "size=1M,huge=never"));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    std::vector<std::byte> bytes(kPageBytes);
    Bytes written = 1 * kChunkBytes;
    while (write_fully(ram_->blocks[0].file.get(), bytes.data(), kPageBytes, written).ok())
        written += kPageBytes;
    ASSERT_EQ(ask("touch 0 1"), "fine");
    while (server_->stats().failed_fill_count == 0) std::this_thread::yield();
    EXPECT_EQ(ask("done 0"), "no");
    ASSERT_EQ(::fallocate(ram_->blocks[0].file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          kChunkBytes, kPageBytes),
              0);
    EXPECT_EQ(ask("content 0"), "zero");
    EXPECT_TRUE(server_->failure().ok());
}

TEST_F(FaultServerTest, SaysThatItsProcessIsGone) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 1"), "fine");
    ASSERT_EQ(asker_.wait_for(1).size(), 1u);
    ram_->guest->kill_and_reap();
    EXPECT_TRUE(absl::IsNotFound(place(1, 0, one_page(1))));
    EXPECT_TRUE(missing_->test(0, 1));
    EXPECT_TRUE(server_->stop().ok());
}

// The first fault that it reads, even: those of a dead agent's guest wait already.
TEST_F(FaultServerTest, StartedInADrainItAnswersNothingMissingWithZeros) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(make_stale(0, all_pages()));
    ASSERT_EQ(ask("touch 0 100 101 102 103 104"), "fine");
    ASSERT_TRUE(wait_readable(ram_->memory->fd(), -1, std::nullopt).ok());
    ASSERT_NO_FATAL_FAILURE(start(FaultMode::kServe));
    while (server_->open_count() < 5) std::this_thread::yield();
    server_->connection_restored(asker_);
    ASSERT_EQ(asker_.wait_for(5).size(), 5u);
    ASSERT_TRUE(place(1, 0, all_pages()).ok());
    for (const char* touch : {"0", "1", "2", "3"})
        EXPECT_EQ(ask(std::string("content ") + touch), "1");
    EXPECT_EQ(server_->stats().local_zero_pages, 0u);
}

TEST_F(FaultServerTest, StartsOnceAndStopsAnyNumberOfTimes) {
    ASSERT_NO_FATAL_FAILURE(make_ram());
    ASSERT_NO_FATAL_FAILURE(start(FaultMode::kHold));
    EXPECT_TRUE(absl::IsFailedPrecondition(server_->start(FaultMode::kServe)));
    EXPECT_TRUE(server_->stop().ok());
    EXPECT_TRUE(server_->stop().ok());
}

class FaultServerHugetlb : public FaultServerTest {
  protected:
    void SetUp() override {
        FaultServerTest::SetUp();
        if (IsSkipped()) return;
        reserved_.emplace(4);
        if (!reserved_->enough()) GTEST_SKIP() << "no huge pages can be reserved here";
        auto state = PrivateMount::create("tmpfs", "size=1M");
        ASSERT_TRUE(state.ok()) << state.status();
        state_.emplace(*std::move(state));
        ASSERT_NO_FATAL_FAILURE(make_ram("hugetlbfs", "pagesize=2M"));
    }
    std::string missing_path() const override { return state_->path() + "/missing"; }

    std::optional<ReservedHugePages> reserved_;
    std::optional<PrivateMount> state_;
};

TEST_F(FaultServerHugetlb, AChunkIsAskedForOnceAndComesWhole) {
    ASSERT_NO_FATAL_FAILURE(make_stale(1, one_page(3)));
    EXPECT_EQ(missing_->count(), 512u);
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 700"), "fine");
    ASSERT_EQ(asker_.wait_for(1), (Requests{{0, 512}}));
    ASSERT_EQ(ask("touch 1 800 10"), "fine");
    EXPECT_EQ(ask("content 2"), "zero");  // after that, the fault on 800 has been read as well
    EXPECT_EQ(asker_.requests().size(), 1u);
    EXPECT_TRUE(absl::IsInvalidArgument(place(1, 1, some_pages({188, 189}))));
    ASSERT_TRUE(place(1, 1, all_pages()).ok());
    EXPECT_EQ(ask("content 0"), "1");
    EXPECT_EQ(ask("content 1"), "1");
    EXPECT_EQ(missing_->count(), 0u);
    ASSERT_TRUE(place(2, 1, all_pages()).ok());
    EXPECT_EQ(server_->stats().duplicate_pages, 512u);
    EXPECT_EQ(ask("check 0 1").substr(0, 5), "wrong");  // all but chunk 1 is zero
    EXPECT_EQ(ask("check 0 1").find(" 513 "), std::string::npos);
}

TEST_F(FaultServerHugetlb, AChunkOfZerosIsAHoleUntilSomebodyWantsIt) {
    ASSERT_NO_FATAL_FAILURE(make_stale(1, all_pages()));
    ASSERT_NO_FATAL_FAILURE(make_stale(2, all_pages()));
    ASSERT_NO_FATAL_FAILURE(start_serving());
    ASSERT_EQ(ask("touch 0 700"), "fine");
    ASSERT_EQ(asker_.wait_for(1), (Requests{{0, 512}}));
    for (const ChunkIndex chunk : {1, 2})
        ASSERT_TRUE(server_->place(0, chunk, all_pages(), all_pages(), {}, PageOrigin::kPush).ok());
    EXPECT_EQ(ask("content 0"), "zero");
    ASSERT_EQ(ask("touch 0 1025"), "fine");
    EXPECT_EQ(ask("content 1"), "zero");
    EXPECT_EQ(asker_.requests().size(), 1u);
}

}  // namespace
}  // namespace godwit
