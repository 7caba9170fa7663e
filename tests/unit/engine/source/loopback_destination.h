// The receiving ends of a migration's streams in this process: applies pages and punches,
// confirms rounds.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/source/streams.h"
#include "transport/codec/chunk_codec.h"
#include "transport/stream/stream_acceptor.h"
#include "transport/stream/tcp_listener.h"

namespace godwit::testing {

class LoopbackDestination {
  public:
    using OnPage = std::function<void(BlockIndex, PageIndex, std::span<const std::byte>)>;

    // `blocks`: sizes in bytes. `on_page` is called for each page before it is applied, on the
    // thread of its stream.
    LoopbackDestination(std::vector<Bytes> blocks, OnPage on_page = {})
        : on_page_(std::move(on_page)), listener_(TcpListener::bind("127.0.0.1", 0).value()) {
        for (const Bytes size : blocks) {
            memory_.emplace_back(size);
            chunk_counts_.push_back(size / kChunkBytes);
            punched_.emplace_back(size / kPageBytes);
            streams_of_chunks_.emplace_back(chunk_counts_.back());
        }
    }
    ~LoopbackDestination() {
        if (streams_) streams_->shutdown();
    }

    // The source's ends, connected to this.
    SourceStreams& connect(SourceSignals& signals, uint16_t stream_count,
                           Compression compression = Compression::kAuto,
                           RateLimiter* limiter = nullptr) {
        const std::jthread acceptor([&] { accept(stream_count); });
        streams_ =
            SourceStreams::connect({.migration_id = "loopback",
                                    .host = "127.0.0.1",
                                    .port = listener_.port(),
                                    .session_token = std::string(SessionToken{}.size(), '\0'),
                                    .stream_count = stream_count,
                                    .limiter = limiter,
                                    .compression = compression,
                                    .chunk_counts = chunk_counts_},
                                   signals, Clock::system().now() + std::chrono::seconds(20))
                .value();
        return *streams_;
    }

    [[nodiscard]] std::span<const std::byte> memory(BlockIndex block) const {
        return memory_[block];
    }
    [[nodiscard]] uint64_t filled_pages() const { return filled_pages_; }
    [[nodiscard]] uint64_t delta_pages() const { return delta_pages_; }  // of these
    [[nodiscard]] uint64_t zero_pages() const { return zero_pages_; }
    // The next frames of pages come damaged: they are dropped, and the source is told.
    void damage(int frames) { to_damage_ = frames; }
    // Takes pages from now on, and confirms no round.
    void fall_silent() { silent_ = true; }
    // Read it when no round is under way.
    [[nodiscard]] const PageSet& punched() const { return punched_; }
    // Frames of a chunk that had come on another stream before.
    [[nodiscard]] uint64_t strayed_frames() const { return strayed_frames_; }

  private:
    void accept(uint16_t stream_count) {
        const HelloExpectation expected{.migration_id = frame_migration_id("loopback"),
                                        .stream_count = static_cast<uint16_t>(stream_count + 1),
                                        .token = SessionToken{}};
        auto acceptor = StreamAcceptor::create(listener_, expected).value();
        accepted_.resize(stream_count + 1U);
        for (int i = 0; i <= stream_count; ++i) {
            auto stream = acceptor.accept(Clock::system().now() + std::chrono::seconds(20));
            ASSERT_TRUE(stream.ok()) << stream.status();
            const uint16_t index = stream->route.stream;
            accepted_[index] = *std::move(stream);
        }
        urgent_.emplace(*accepted_.back().channel, accepted_.back().route);
        for (uint16_t i = 0; i < stream_count; ++i)
            receivers_.emplace_back([this, i] { receive(accepted_[i]); });
    }

    void receive(AcceptedStream& stream) {
        FrameReader reader(*stream.channel, stream.route);
        ChunkCodec codec;
        while (true) {
            const auto frame = reader.next();
            if (!frame.ok()) return;
            if (frame->kind() == FrameKind::kMarker) {
                if (silent_) continue;
                const MarkerAckBody ack{.round = MarkerBody::decode(frame->body)->round,
                                        .stream = stream.route.stream};
                // A source that has ended the round, for another stream failed, has hung up.
                if (!urgent_->send(FrameKind::kMarkerAck, ack.encode()).ok()) return;
                continue;
            }
            if (frame->kind() == FrameKind::kPunch) {
                const auto punch = decode_chunk_pages(frame->body, chunk_counts_, 1);
                ASSERT_TRUE(punch.ok()) << punch.status();
                note_stream(punch->front().block, punch->front().chunk, stream.route.stream);
                drop(punch->front());
                continue;
            }
            const auto pages = decode_pages(frame->body, chunk_counts_, DeltaPages::kAccepted);
            ASSERT_TRUE(pages.ok()) << pages.status();
            note_stream(pages->block, pages->chunk, stream.route.stream);
            if (to_damage_ > 0 && to_damage_-- > 0) {
                const DamagedBody damaged{
                    .stream = stream.route.stream,
                    .pages = {
                        .block = pages->block, .chunk = pages->chunk, .pages = pages->present}};
                EXPECT_TRUE(urgent_->send(FrameKind::kDamaged, damaged.encode()).ok());
                continue;
            }
            apply(*pages, codec.decompress(pages->codec, pages->payload, pages->raw_bytes).value());
        }
    }

    // A chunk's entry and its pages belong to its stream, so to one thread: unless it strays.
    void note_stream(BlockIndex block, ChunkIndex chunk, uint16_t stream) {
        const int before = streams_of_chunks_[block][chunk].exchange(stream + 1);
        if (before != 0 && before != stream + 1) ++strayed_frames_;
    }

    void drop(const ChunkPages& punch) {
        for_each_run(punch.pages, [&](PageRange run) {
            const PageIndex first = punch.chunk * kPagesPerChunk + run.begin;
            punched_[punch.block].set_range({first, first + run.count()});
            std::memset(memory_[punch.block].data() + first * kPageBytes, 0,
                        run.count() * kPageBytes);
        });
    }

    void apply(const PagesBody& pages, std::span<const std::byte> raw) {
        static constexpr std::array<std::byte, kPageBytes> kZero{};
        const auto put = [&](PageIndex in_chunk, std::span<const std::byte> content) {
            const PageIndex page = pages.chunk * kPagesPerChunk + in_chunk;
            if (on_page_) on_page_(pages.block, page, content);
            std::memcpy(memory_[pages.block].data() + page * kPageBytes, content.data(),
                        kPageBytes);
        };
        for_each_run(pages.filled(), [&](PageRange run) {
            for (PageIndex page = run.begin; page < run.end; ++page) {
                std::array<std::byte, kPageBytes> content;
                std::ranges::copy(raw.first(kPageBytes), content.begin());
                if (pages.delta[page / 64] >> (page % 64) & 1) {
                    const std::byte* there = memory_[pages.block].data() +
                                             (pages.chunk * kPagesPerChunk + page) * kPageBytes;
                    for (size_t i = 0; i < kPageBytes; ++i) content[i] ^= there[i];
                    ++delta_pages_;
                }
                put(page, content);
                raw = raw.subspan(kPageBytes);
                ++filled_pages_;
            }
        });
        for_each_run(pages.zero, [&](PageRange run) {
            for (PageIndex page = run.begin; page < run.end; ++page) put(page, kZero);
            zero_pages_ += run.count();
        });
    }

    const OnPage on_page_;
    TcpListener listener_;
    std::vector<std::vector<std::byte>> memory_;
    std::vector<uint64_t> chunk_counts_;
    PageSet punched_;
    std::vector<std::vector<std::atomic<int>>> streams_of_chunks_;  // + 1; 0: none yet
    std::atomic<int> to_damage_{0};
    std::atomic<bool> silent_{false};
    std::atomic<uint64_t> strayed_frames_{0};
    std::atomic<uint64_t> filled_pages_{0};
    std::atomic<uint64_t> delta_pages_{0};
    std::atomic<uint64_t> zero_pages_{0};
    std::vector<AcceptedStream> accepted_;
    std::optional<FrameWriter> urgent_;
    std::vector<std::jthread> receivers_;
    std::unique_ptr<SourceStreams> streams_;
};

}  // namespace godwit::testing
