// What a round sends, and in which order, seen by a destination in the same process.
#include <gmock/gmock.h>

#include <map>

#include "tests/unit/engine/source/round_sender_fixture.h"

namespace godwit {
namespace {

TEST_F(RoundSenderTest, SendsThePagesOfTheSetAndNoOthers) {
    connect();
    PageSet set = empty_set();
    for (BlockIndex b = 0; b < blocks_.size(); ++b) {
        for (PageIndex page = 0; page < blocks_[b].page_count(); page += 3) {
            write_page(b, page, page + 1, page % 2 == 0);
            set[b].set(page);
        }
    }
    const RoundTotals totals = send(set);
    EXPECT_EQ(totals.sent_pages(), count_pages(set));
    EXPECT_EQ(destination_->filled_pages(), count_pages(set));
    EXPECT_EQ(destination_->zero_pages(), 0U);
    EXPECT_GT(totals.lz4_pages + totals.zstd_pages + totals.raw_pages, 0U);
    EXPECT_EQ(sender_->done_pages(), count_pages(set));
    expect_same_memory();

    write_page(0, 1, 99, true);
    EXPECT_EQ(send(empty_set()).sent_pages(), 0U);
    EXPECT_EQ(destination_->filled_pages(), count_pages(set));
}

TEST_F(RoundSenderTest, LeavesOutPagesThatTheDestinationHas) {
    connect();
    PageSet set = empty_set();
    set[0].set_range({0, 100});
    for (PageIndex page = 0; page < 50; ++page) write_page(0, page, 7, true);
    // A fresh destination is zero everywhere.
    const RoundTotals first = send(set);
    EXPECT_EQ(first.zero_pages, 50U);
    EXPECT_EQ(first.zero_sent_pages, 0U);
    EXPECT_EQ(first.sent_pages(), 50U);
    // Only one of the pages has changed.
    write_page(0, 20, 8, true);
    const RoundTotals second = send(set);
    EXPECT_EQ(second.unchanged_pages, 49U);
    EXPECT_EQ(second.sent_pages(), 1U);
    EXPECT_EQ(destination_->filled_pages(), 51U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, SendsAPageThatBecameZeroAsABitOnce) {
    connect();
    PageSet set = empty_set();
    set[1].set(5);
    write_page(1, 5, 1, true);
    send(set);
    write_zero(1, 5);
    EXPECT_EQ(send(set).zero_sent_pages, 1U);
    EXPECT_EQ(send(set).zero_sent_pages, 0U);
    EXPECT_EQ(destination_->zero_pages(), 1U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, SendsOnlyWhatChangedInAPageWhereThatPays) {
    compression_ = Compression::kLz4;
    connect({}, {.delta_cache_bytes = 1 << 20});
    PageSet set = empty_set();
    set[0].set_range({0, 64});
    for (PageIndex page = 0; page < 64; ++page) write_page(0, page, page + 1, true);
    EXPECT_EQ(send(set).delta_pages, 0U);
    for (int round = 0; round < 3; ++round) {
        for (PageIndex page = 0; page < 64; ++page) change_word(0, page, 100 + round);
        change_word(0, 7, 100 + round);
        const RoundTotals totals = send(set);
        EXPECT_EQ(totals.delta_pages, 64U);
        EXPECT_EQ(totals.sent_pages(), 64U);
        expect_same_memory();
    }
    EXPECT_EQ(destination_->delta_pages(), 3 * 64U);
    // What became zero, and then something again, is no delta of what it was before.
    write_zero(0, 5);
    send(set);
    write_page(0, 5, 6, true);
    change_word(0, 6, 999);
    const RoundTotals totals = send(set);
    EXPECT_EQ(totals.delta_pages, 1U);
    EXPECT_EQ(totals.sent_pages(), 2U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, CountsWhatZstdPacked) {
    compression_ = Compression::kZstd;
    connect();
    PageSet set = empty_set();
    set[0].set_range({0, 10});
    for (PageIndex page = 0; page < 10; ++page) write_page(0, page, 7, false);
    const RoundTotals totals = send(set);
    EXPECT_EQ(totals.zstd_pages, 10U);
    EXPECT_EQ(totals.lz4_pages, 0U);
    EXPECT_EQ(totals.sent_pages(), 10U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, MakesNoDeltasWhereRawPagesAreFaster) {
    compression_ = Compression::kOff;
    connect({}, {.delta_cache_bytes = 1 << 20});
    PageSet set = fill();
    send(set);
    change_word(0, 3, 5);
    const RoundTotals totals = send(set);
    EXPECT_EQ(totals.delta_pages, 0U);
    EXPECT_EQ(totals.raw_pages, 1U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, WithoutHashesSendsWhatWasWrittenChangedOrNot) {
    connect({}, {.page_hashes = false, .delta_cache_bytes = 1 << 20});
    PageSet set = empty_set();
    set[0].set_range({0, 10});
    for (PageIndex page = 0; page < 9; ++page) write_page(0, page, 7, true);
    const RoundTotals first = send(set);
    EXPECT_EQ(first.sent_pages(), 10U);
    EXPECT_EQ(first.zero_sent_pages, 1U);
    EXPECT_TRUE(sender_->was_sent(0, 0));
    EXPECT_FALSE(sender_->was_sent(0, 1));
    const RoundTotals second = send(set);
    EXPECT_EQ(second.unchanged_pages, 0U);
    EXPECT_EQ(second.sent_pages(), 10U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, RearmsAPageBeforeItIsRead) {
    connect();
    tracker_.on_rearm = [&](BlockIndex block, PageRange range) {
        for (PageIndex page = range.begin; page < range.end; ++page)
            write_page(block, page, 1234, true);  // the last write that nobody would report
    };
    PageSet set = empty_set();
    set[0].set_range({10, 20});
    set[0].set_range({600, 700});
    send(set);
    EXPECT_EQ(destination_->filled_pages(), 110U);
    expect_same_memory();
}

TEST_F(RoundSenderTest, RearmsNothingBehindAFrozenGuest) {
    connect();
    uint64_t rearmed = 0;
    tracker_.on_rearm = [&](BlockIndex, PageRange range) { rearmed += range.count(); };
    PageSet set = empty_set();
    set[0].set_range({10, 20});
    send(set, GuestState::kFrozen);
    EXPECT_EQ(rearmed, 0U);
    send(set, GuestState::kRuns);
    EXPECT_EQ(rearmed, 10U);
}

TEST_F(RoundSenderTest, ReportsAStreamThatFailed) {
    connect();
    PageSet set = empty_set();
    set[0].set_range({0, blocks_[0].page_count()});
    for (PageIndex page = 0; page < blocks_[0].page_count(); ++page) write_page(0, page, 1, true);
    streams_->shutdown();
    sender_->begin(set, 0, GuestState::kRuns);
    ASSERT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
    EXPECT_FALSE(sender_->finish().ok());
}

// The others would go on for as long as the round takes, for nothing.
TEST_F(RoundSenderTest, AStreamThatFailsIsNamedAndEndsTheRoundOfTheOthers) {
    connect();
    const PageSet set = fill();
    constexpr size_t kLost = 1;
    const MonotonicTime limit = Clock::system().now() + kRoundLimit;
    tracker_.on_rearm = [&](BlockIndex block, PageRange pages) {
        const size_t stream = (pages.begin / kPagesPerChunk + block) % kStreams;
        while (stream != kLost && !sender_->was_cut() && Clock::system().now() < limit)
            std::this_thread::yield();
    };
    streams_->data()[kLost].channel->shutdown();
    sender_->begin(set, 0, GuestState::kRuns);
    ASSERT_TRUE(sender_->wait(limit));
    const auto totals = sender_->finish();
    EXPECT_THAT(std::string(totals.status().message()), ::testing::HasSubstr("Data stream 1: "));
    // Of each other stream the chunk that it was reading.
    EXPECT_LE(destination_->filled_pages(), (kStreams - 1) * kPagesPerChunk);
    EXPECT_GT(count_pages(sender_->left_out()), 0U);
}

// --- a round that ends before its time --------------------------------------------------------

TEST_F(RoundSenderTest, LeavesOutWhatWasNotReadWhenItIsCutAndSendsItNextTime) {
    connect();
    PageSet set = fill();
    set[0].clear_range({5, 9});  // left out are pages of the set, not whole chunks
    std::atomic<bool> cutting{true};
    // In the middle of a round: some pages are being read, and all streams have more to do.
    tracker_.on_rearm = [&](BlockIndex, PageRange) {
        if (cutting) sender_->cut_short();
    };
    const RoundTotals totals = send(set);
    ASSERT_TRUE(sender_->was_cut());
    const PageSet rest = sender_->left_out();
    // What is being read is finished, one chunk of each stream at most.
    EXPECT_GE(totals.sent_pages(), 1U);
    EXPECT_LE(totals.sent_pages(), kStreams * kPagesPerChunk);
    EXPECT_EQ(totals.sent_pages(), destination_->filled_pages());
    EXPECT_EQ(sender_->done_pages(), totals.sent_pages());
    EXPECT_EQ(count_pages(rest) + totals.sent_pages(), count_pages(set)) << "each is one of both";
    for (BlockIndex b = 0; b < blocks_.size(); ++b) {
        PageBitmap strangers = rest[b];
        strangers.remove(set[b]);
        EXPECT_EQ(strangers.count(), 0U) << "block " << b;
    }

    cutting = false;
    EXPECT_EQ(send(rest).sent_pages(), count_pages(rest)) << "taken for sent";
    EXPECT_FALSE(sender_->was_cut());
    EXPECT_EQ(count_pages(sender_->left_out()), 0U);
    EXPECT_EQ(destination_->filled_pages(), count_pages(set));
    for (PageIndex page = 5; page < 9; ++page) write_zero(0, page);
    expect_same_memory();
}

TEST_F(RoundSenderTest, DoesNotRearmWhatIsLeftOut) {
    connect();
    const PageSet set = fill();
    std::atomic<uint64_t> rearmed{0};
    tracker_.on_rearm = [&](BlockIndex, PageRange range) {
        sender_->cut_short();
        rearmed += range.count();
    };
    send(set);
    // A write to a page that is left out must be found by the next collect, or be sent.
    EXPECT_EQ(rearmed + count_pages(sender_->left_out()), count_pages(set));
}

TEST_F(RoundSenderTest, IsNotCutByACutOfAnEarlierRound) {
    connect();
    const PageSet set = fill();
    sender_->cut_short();  // too late, or too early
    EXPECT_EQ(send(set).sent_pages(), count_pages(set));
    EXPECT_FALSE(sender_->was_cut());
    expect_same_memory();
}

// --- punches ----------------------------------------------------------------------------------

TEST_F(RoundSenderTest, PunchesThePagesOfTheSetAndNoOthersOnTheStreamsOfTheirPages) {
    connect();
    send(fill());
    const uint64_t filled = destination_->filled_pages();
    PageSet stale = empty_set();
    for (PageIndex page = 1; page < blocks_[0].page_count(); page += 7) stale[0].set(page);
    stale[1].set_range({kPagesPerChunk, 3 * kPagesPerChunk});
    const RoundTotals totals = send(stale, GuestState::kRuns, RoundKind::kPunches);
    EXPECT_EQ(totals.sent_pages(), 0U);
    EXPECT_EQ(sender_->done_pages(), count_pages(stale));
    EXPECT_EQ(destination_->filled_pages(), filled) << "no page goes with them";
    EXPECT_EQ(destination_->strayed_frames(), 0U);
    ASSERT_EQ(count_pages(destination_->punched()), count_pages(stale));
    for (BlockIndex b = 0; b < blocks_.size(); ++b) {
        PageBitmap others = destination_->punched()[b];
        others.remove(stale[b]);
        EXPECT_EQ(others.count(), 0U) << "block " << b;
        stale[b].for_each_run([&](PageRange run) {
            for (PageIndex page = run.begin; page < run.end; ++page) write_zero(b, page);
        });
    }
    expect_same_memory();  // as it is with these pages gone
}

TEST_F(RoundSenderTest, NeitherReadsNorRearmsWhatItPunches) {
    connect();
    tracker_.on_rearm = [](BlockIndex, PageRange) { ADD_FAILURE() << "re-armed"; };
    PageSet stale = empty_set();
    stale[1].set_range({0, kPagesPerChunk});
    blocks_[1].file.reset();  // a read would fail
    send(stale, GuestState::kRuns, RoundKind::kPunches);
    EXPECT_EQ(count_pages(destination_->punched()), kPagesPerChunk);
    EXPECT_FALSE(sender_->was_sent(1, 0)) << "the destination holds nothing of it";
}

TEST_F(RoundSenderTest, ReportsAStreamThatFailedUnderPunches) {
    connect();
    PageSet stale = empty_set();
    stale[0].set(0);
    streams_->shutdown();
    sender_->begin(stale, 0, GuestState::kFrozen, RoundKind::kPunches);
    ASSERT_TRUE(sender_->wait(Clock::system().now() + kRoundLimit));
    EXPECT_FALSE(sender_->finish().ok());
}

// Rounds over random pages that a writer changes meanwhile.
class RoundSenderProperty : public RoundSenderTest, public ::testing::WithParamInterface<int> {};

TEST_P(RoundSenderProperty, NoOlderPageOvertakesANewerOne) {
    std::vector<std::vector<uint64_t>> seen{std::vector<uint64_t>(blocks_[0].page_count()),
                                            std::vector<uint64_t>(blocks_[1].page_count())};
    std::atomic<uint64_t> overtaken{0};
    connect([&](BlockIndex block, PageIndex page, std::span<const std::byte> content) {
        uint64_t version = 0;
        std::memcpy(&version, content.data(), sizeof version);
        // A page belongs to one stream, so to one thread.
        uint64_t& newest = seen[block][page];
        if (version != 0 && version < newest) ++overtaken;
        newest = std::max(newest, version);
    });
    std::mt19937_64 random(static_cast<uint64_t>(GetParam()));
    uint64_t version = 0;
    PageSet dirty = empty_set();
    const auto write_some = [&](int count) {
        for (int i = 0; i < count; ++i) {
            const BlockIndex block = random_block(random);
            const PageIndex page = random() % blocks_[block].page_count();
            dirty[block].set(page);
            if (random() % 8 == 0)
                write_zero(block, page);
            else
                write_page(block, page, ++version, random() % 2 == 0);
        }
    };
    write_some(1500);
    for (int round = 0; round < 6; ++round) {
        const PageSet set = std::exchange(dirty, empty_set());
        std::jthread writer([&] { write_some(400); });
        send(set);
        writer.join();
    }
    send(std::exchange(dirty, empty_set()));
    EXPECT_EQ(overtaken, 0U);
    expect_same_memory();
}

INSTANTIATE_TEST_SUITE_P(Seeds, RoundSenderProperty, ::testing::Range(1, 5));

TEST_F(RoundSenderTest, SendsInFullWhatCameDamaged) {
    connect({}, {.delta_cache_bytes = kFirstBlock + kSecondBlock});
    const PageSet all = fill();
    send(all);
    // Deltas to what the destination is taken to hold, and one of zeros.
    PageSet changed = empty_set();
    for (const PageIndex page : {3, 4, 600}) {
        change_word(0, page, 77);
        changed[0].set(page);
    }
    write_zero(0, 5);
    changed[0].set(5);
    destination_->damage(2);
    EXPECT_EQ(send(changed).sent_pages(), 4u);

    const SourceStreams::Damage damage = streams_->take_damage();
    EXPECT_EQ(damage.frames, 2u);
    ASSERT_EQ(damage.pages.size(), 2u);
    for (const ChunkPages& pages : damage.pages) sender_->forget(pages);
    const uint64_t deltas = destination_->delta_pages();
    const RoundTotals again = send(changed, GuestState::kFrozen);
    EXPECT_EQ(again.sent_pages(), 4u);
    EXPECT_EQ(again.unchanged_pages, 0u);
    EXPECT_EQ(destination_->delta_pages(), deltas);
    expect_same_memory();
    EXPECT_EQ(streams_->take_damage().frames, 0u);
}

TEST_F(RoundSenderTest, UsesMoreStreamsAndFewerFromRoundToRound) {
    connect({}, {.delta_cache_bytes = 16 << 20, .streams_are_settled = false});
    std::mt19937_64 random(11);
    PageSet set = fill();
    for (const size_t streams : {1U, 2U, 3U, 2U}) {
        streams_->use(streams);
        send(set);
        expect_same_memory();
        clear_pages(set);
        for (int i = 0; i < 200; ++i) {
            const BlockIndex block = random_block(random);
            const PageIndex page = random() % blocks_[block].page_count();
            change_word(block, page, random());
            set[block].set(page);
        }
    }
    EXPECT_GT(destination_->strayed_frames(), 0U) << "chunks that changed their stream";
    EXPECT_EQ(destination_->delta_pages(), 0U) << "no cache yet";
    sender_->settle_streams();
    for (int round = 0; round < 2; ++round) {
        send(set);
        expect_same_memory();
        for (BlockIndex block = 0; block < set.size(); ++block)
            for (PageIndex page = set[block].next_set(0); page < set[block].page_count();
                 page = set[block].next_set(page + 1))
                change_word(block, page, random());
    }
}

}  // namespace
}  // namespace godwit
