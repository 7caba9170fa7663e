// CodecGovernor: raw, lz4 or zstd for the next chunk of a stream, by what the link and the CPU were
// measured to do. Arithmetic only: the caller has the clock.
//
// Frames are double-buffered: while one is on the link, the next is read and packed. So a chunk
// takes the longer of the two times, and the codec for which that is shortest wins; when nearly
// equal, the one that takes less of the CPU:
//
//     raw          max(pass,        raw / link)
//     lz4, zstd    max(pass + pack, packed / link)
//
// * pass: what the CPU does for the chunk in any case (read, zero test, hash): measured per chunk.
// * link: bytes per second while the link is what everybody waits for. A chunk that did not wait
//   only shows that the link is at least so fast; so once in a while, and ever more rarely while
//   this leads nowhere, some chunks go by the next lighter codec (zstd, lz4, raw) to find out
//   whether packing is what holds the stream up.
// * pack and packed: of this chunk, from samples (64 KiB of its middle), or else as chunks of its
//   kind were lately. lz4's sample comes first, where it can be paid; zstd's follows where zstd
//   would win with the same speed and nothing left to send. Each codec pays its samples out of its
//   own account: 1/1024 of the time of the page passes, and of the time spent waiting for the link
//   as large a part as its samples lately led to something (lz4's to packing, zstd's to zstd). So
//   with noise they cost next to nothing, and with text on a slow link every chunk has its samples.
//
// Per chunk:  plan() ─► a codec, or a sample to pack: judge() it, and again if that says so
//             packed() after the chunk was
//             sent() when the frame is on its way
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/clock.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// One per stream, one thread. Never allocates.
class CodecGovernor {
  public:
    // What to sample: so much from the middle of the payload.
    static constexpr size_t kSampleBytes = size_t{64} << 10;

    // The part of the time that a codec must save over the lighter ones. Less is lost in the noise
    // of measuring; and zstd takes more than twice the CPU of lz4, which the guest may want.
    static constexpr double least_gain(PageCodec codec) {
        return codec == PageCodec::kZstd ? 1.0 / 10 : 1.0 / 32;
    }

    // Deltas are nearly all zeros and pack differently: a payload is one when most of it is.
    enum class Content { kPlain, kDelta };

    struct Chunk {
        size_t raw_bytes = 0;
        Duration pass{};  // reading, hashing, deltas: everything but packing and waiting
        Content content = Content::kPlain;
    };
    // Pack a sample of the chunk by `codec` and judge() it; or send all of it by `codec`.
    struct Step {
        PageCodec codec = PageCodec::kRaw;
        bool is_sample = false;
        bool operator==(const Step&) const = default;
    };
    [[nodiscard]] Step plan(const Chunk& chunk);

    // What a codec made of some bytes. packed_bytes >= raw_bytes: nothing was saved.
    struct Packing {
        size_t raw_bytes = 0;
        size_t packed_bytes = 0;
        Duration time{};
    };
    // After a step that is a sample: the next one, of two samples at the most.
    [[nodiscard]] Step judge(const Packing& sample);
    // After the chunk was packed, whether or not it was worth it.
    void packed(const Packing& whole);

    // The frame of the planned chunk is on its way, and the one before it has been taken: `wait`
    // is how long this thread stood still for that (limiter included). Between two calls the link
    // has taken one frame, whatever else the thread did.
    void sent(size_t frame_bytes, Duration wait, MonotonicTime now);
    // The link will have nothing to do until the next chunk: after a flush, between rounds.
    void link_idle();

    // Whether deltas would be worth their making on this link: false where raw pages are faster.
    [[nodiscard]] bool deltas_pay() const;

    // For the report.
    struct Choices {
        uint64_t raw_chunks = 0;          // those below among them
        uint64_t sampled_raw_chunks = 0;  // a sample was packed, and spoke for raw
        uint64_t futile_chunks = 0;       // wholly packed, and sent raw: nothing was saved
        uint64_t lz4_chunks = 0;
        uint64_t zstd_chunks = 0;
        uint64_t samples = 0;
        Duration sample_time{};
    };
    [[nodiscard]] const Choices& choices() const { return choices_; }
    // Bytes per second, as estimated so far.
    [[nodiscard]] double link_rate() const { return link_bytes_ / link_ns_ * 1e9; }

  private:
    // 64 KiB of text, about.
    static constexpr double kFirstLz4SampleNs = 100e3;
    static constexpr double kFirstZstdSampleNs = 300e3;
    static constexpr double kFirstTrialShare = 1;
    // Chunks after which a trial that still sends by the lighter codec has succeeded.
    static constexpr uint32_t kTrialIsOver = 16;

    // What a codec costs and leaves.
    struct Cost {
        double pack_ns = 0;  // per raw byte
        double ratio = 1;    // packed / raw
    };
    // What is known of a codec and one kind of content.
    struct Kind {
        Cost cost;
        double least_pack_ns = 0;  // seen so far: what is above it may be another thread's time
        double hits = 1;  // the part of samples, and of chunks packed without, that spoke for it
        bool known = false;
    };
    // By PageCodec; of raw there is nothing to know.
    template <typename T>
    using PerCodec = std::array<T, 3>;

    [[nodiscard]] double wire_ns(double ratio) const;
    [[nodiscard]] double time_ns(const Cost& cost) const;
    [[nodiscard]] bool helps(const Cost& cost) const;
    [[nodiscard]] PageCodec fastest(const PerCodec<Cost>& costs) const;
    [[nodiscard]] bool zstd_may_win() const;

    [[nodiscard]] Step send_by(PageCodec codec);
    [[nodiscard]] Step sample(PageCodec codec);
    [[nodiscard]] Step own_sample(PageCodec likely);
    [[nodiscard]] Step decide();
    [[nodiscard]] double sample_cost_ns(PageCodec codec) const;
    [[nodiscard]] bool can_pay(PageCodec codec) const;
    void pay_for(const Packing& sample);
    void learn(const Packing& packing);
    void learn_hit(PageCodec codec, bool hit);

    [[nodiscard]] bool begin_trial(PageCodec likely);
    void follow_trial(PageCodec likely);
    void measure_link(double interval_ns, double wait_ns);
    void forget_seen();

    [[nodiscard]] const Kind& kind(PageCodec codec) const {
        return kinds_[static_cast<size_t>(chunk_.content)][static_cast<size_t>(codec)];
    }
    [[nodiscard]] Kind& kind(PageCodec codec) {
        return kinds_[static_cast<size_t>(chunk_.content)][static_cast<size_t>(codec)];
    }
    [[nodiscard]] Cost& cost(PageCodec codec) { return costs_[static_cast<size_t>(codec)]; }
    [[nodiscard]] const Cost& cost(PageCodec codec) const {
        return costs_[static_cast<size_t>(codec)];
    }

    // The chunk between plan() and sent().
    Chunk chunk_;
    PageCodec codec_ = PageCodec::kRaw;  // of the last step; raw too where packing saved nothing
    PerCodec<bool> sampled_{};
    PerCodec<Cost> costs_;
    double pack_ns_ = 0;  // spent on it

    // By Content. Of deltas a guess until there were some: a few dozen changed bytes in a page.
    std::array<PerCodec<Kind>, 2> kinds_{
        {{},
         {Kind{},
          Kind{.cost = {.pack_ns = 0.3, .ratio = 0.05}, .least_pack_ns = 0.3, .known = true},
          Kind{}}}};
    double pass_ns_per_byte_ = 0.15;
    PerCodec<double> account_ns_{0, kFirstLz4SampleNs, kFirstZstdSampleNs};

    // Decaying sums. At first little is known, of a link of 1 Gb/s: there packing matters most.
    double link_bytes_ = 256 << 10;
    double link_ns_ = (256 << 10) * 8.0;
    size_t in_flight_bytes_ = 0;
    // Frames that were not counted yet, for they are too small to tell.
    double seen_bytes_ = 0;
    double seen_ns_ = 0;
    double seen_wait_ns_ = 0;
    MonotonicTime sent_at_{};

    // Chunks tried by a lighter codec while packing keeps the link waiting, paid for out of that
    // time, once more frames in a row did not wait than sockets hold.
    size_t unwaited_bytes_ = 0;
    uint32_t unwaited_chunks_ = 0;
    double trial_account_ns_ = 0;
    double trial_share_ = kFirstTrialShare;
    PageCodec trial_ = PageCodec::kRaw;
    uint32_t trial_left_ = 0;
    uint32_t since_trial_ = kTrialIsOver;

    Choices choices_;
};

}  // namespace godwit
