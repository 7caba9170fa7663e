#include "transport/stream/page_sender.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/base/hash.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/stream/channel_pairs.h"
#include "transport/stream/faulty_channel.h"
#include "transport/stream/frame_reader.h"

namespace godwit {
namespace {

constexpr FrameRoute kSenderRoute{.migration_id = {std::byte{7}}, .stream = 1};
constexpr size_t kChunks = 3;

using Memory = std::vector<std::byte>;

std::span<std::byte> page_of(Memory& memory, size_t page) {
    return std::span(memory).subspan(page * kPageBytes, kPageBytes);
}

// A third of the pages is noise, a third repeats, a third is zero.
Memory random_memory(Random& random) {
    Memory memory(kChunks * kChunkBytes);
    for (size_t page = 0; page < memory.size() / kPageBytes; ++page) {
        const size_t kind = random_below(random, 3);
        uint64_t value = random();
        for (std::byte& byte : page_of(memory, page)) {
            if (kind == 0) value = value * 6364136223846793005u + 1442695040888963407u;
            if (kind < 2) byte = static_cast<std::byte>(value >> 56);
        }
    }
    return memory;
}

absl::Status send_chunk(PageSender& sender, Memory& memory, ChunkIndex chunk,
                        const ChunkMask& present) {
    PageSender::Chunk request{.chunk = chunk, .present = present};
    std::byte* out = sender.gather().data();
    for_each_run(present, [&](PageRange run) {
        for (PageIndex page = run.begin; page < run.end; ++page) {
            const auto bytes = page_of(memory, chunk * kPagesPerChunk + page);
            if (is_zero(bytes)) {
                request.zero[page / 64] |= uint64_t{1} << (page % 64);
                continue;
            }
            std::memcpy(out, bytes.data(), bytes.size());
            out += bytes.size();
        }
    });
    return sender.send(request);
}

// Writes frames into `memory` until an error, which it returns; counts the pages in `received`.
absl::Status receive_pages(Channel& channel, Memory& memory, PageBitmap& received) {
    const std::array<uint64_t, 1> chunk_counts{kChunks};
    FrameReader reader(channel, kSenderRoute);
    ChunkCodec codec;
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Frame frame, reader.next());
        GODWIT_ASSIGN_OR_RETURN(const PagesBody pages, decode_pages(frame.body, chunk_counts));
        GODWIT_ASSIGN_OR_RETURN(auto raw,
                                codec.decompress(pages.codec, pages.payload, pages.raw_bytes));
        const size_t first = pages.chunk * kPagesPerChunk;
        for_each_run(pages.present, [&](PageRange run) {
            received.set_range({first + run.begin, first + run.end});
            for (PageIndex page = run.begin; page < run.end; ++page)
                std::ranges::fill(page_of(memory, first + page), std::byte{0});
        });
        for_each_run(pages.filled(), [&](PageRange run) {
            for (PageIndex page = run.begin; page < run.end; ++page) {
                std::ranges::copy(raw.first(kPageBytes), page_of(memory, first + page).begin());
                raw = raw.subspan(kPageBytes);
            }
        });
    }
}

void send_random_chunks(Channel& channel, const PageSender::Options& options, Memory& memory,
                        uint64_t seed) {
    Random random(seed);
    FrameWriter writer(channel, kSenderRoute);
    auto sender = PageSender::create(writer, options);
    ASSERT_TRUE(sender.ok()) << sender.status();
    for (size_t i = 0; i < 12; ++i) {
        ChunkMask present{};
        for (uint64_t& word : present) word = i % 3 == 0 ? ~uint64_t{0} : random();
        if (!send_chunk(*sender, memory, i % kChunks, present).ok()) return;
    }
    if (!sender->flush().ok()) return;
    EXPECT_GT(sender->totals().frame_bytes, 0u);
}

// Every page that arrived is the one that was sent, whatever happened to the rest.
absl::Status copy_memory(std::unique_ptr<Channel> near, Channel& far,
                         const PageSender::Options& options, uint64_t seed) {
    Random random(seed);
    Memory source = random_memory(random);
    Memory destination(source.size(), std::byte{0xee});
    PageBitmap received(source.size() / kPageBytes);
    std::jthread thread([&, own = std::move(near)] {
        send_random_chunks(*own, options, source, seed);
        own->shutdown();
    });
    const absl::Status status = receive_pages(far, destination, received);
    far.shutdown();
    thread.join();
    for (size_t page = 0; page < received.page_count(); ++page) {
        if (received.test(page)) {
            EXPECT_TRUE(std::ranges::equal(page_of(source, page), page_of(destination, page)))
                << page;
        }
    }
    if (absl::IsOutOfRange(status)) {
        EXPECT_FALSE(received.none());
    }
    return status;
}

TEST(PageSender, ChunksArriveWholeOverTcpRawAndCompressed) {
    for (const Compression compression :
         {Compression::kOff, Compression::kAuto, Compression::kLz4, Compression::kZstd}) {
        auto [near, far] = tcp_pair();
        const auto status = copy_memory(std::move(near), *far, {.compression = compression}, 1);
        EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
    }
}

TEST(PageSender, ChunksArriveWholeThroughSmallSocketBuffers) {
    auto [near, far] = tcp_pair({.send_buffer_bytes = 32768, .receive_buffer_bytes = 65536});
    const auto status = copy_memory(std::move(near), *far, {.compression = Compression::kLz4}, 2);
    EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
}

TEST(PageSender, FaultsOfTheLinkNeverBringAWrongPage) {
    Random random(3);
    for (size_t round = 0; round < 8; ++round) {
        const size_t place = random_below(random, 10u << 20);
        auto [near, far] = unix_pair();
        const ChannelFaults fault =
            round % 2 == 0 ? ChannelFaults{.cut_after = place}
                           : ChannelFaults{.flip_byte = place, .flip_bit = unsigned(round / 2)};
        auto faulty = FaultyChannel::create(std::move(near), {.send = fault});
        ASSERT_TRUE(faulty.ok());
        constexpr std::array kCompressions{Compression::kLz4, Compression::kAuto,
                                           Compression::kZstd, Compression::kAuto};
        (void)copy_memory(*std::move(faulty), *far, {.compression = kCompressions[round / 2]},
                          round);
    }
}

TEST(PageSender, AControlFrameBetweenChunksKeepsItsPlace) {
    auto [near, far] = tcp_pair();
    std::jthread thread([own = std::move(near)] {
        FrameWriter writer(*own, kSenderRoute);
        auto sender = PageSender::create(writer, {});
        ASSERT_TRUE(sender.ok());
        std::ranges::fill(sender->gather(), std::byte{1});
        ChunkMask all;
        all.fill(~uint64_t{0});
        ASSERT_TRUE(sender->send({.present = all}).ok());
        ASSERT_TRUE(writer.send(FrameKind::kCommit).ok());
        std::ranges::fill(sender->gather(), std::byte{2});
        ASSERT_TRUE(sender->send({.present = all}).ok());
        ASSERT_TRUE(sender->flush().ok());
    });
    FrameReader reader(*far, kSenderRoute);
    for (const FrameKind kind : {FrameKind::kPages, FrameKind::kCommit, FrameKind::kPages}) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame.ok()) << frame.status();
        EXPECT_EQ(frame->kind(), kind);
    }
}

TEST(PageSender, AStopEndsTheWaitForBandwidthBeforeTheFrameLeaves) {
    auto [near, far] = tcp_pair();
    FrameWriter writer(*near, kSenderRoute);
    RateLimiter limiter(1);
    std::stop_source stop;
    stop.request_stop();
    auto sender = PageSender::create(writer, {.limiter = &limiter});
    ASSERT_TRUE(sender.ok());
    EXPECT_TRUE(absl::IsCancelled(sender->send({.present = {1}, .zero = {1}}, stop.get_token())));
    EXPECT_EQ(writer.frame_count(), 0u);
}

}  // namespace
}  // namespace godwit
