// CodecGovernor: raw or lz4 for the next chunk of a stream, by what the link and the CPU were
// measured to do. Arithmetic only: the caller has the clock.
//
// Frames are double-buffered: while one is on the link, the next is read and packed. So a chunk
// takes the longer of the two times, and the shorter of these two wins (raw when nearly equal):
//
//     raw   max(pass,        raw / link)
//     lz4   max(pass + pack, packed / link)
//
// * pass: what the CPU does for the chunk in any case (read, zero test, hash): measured per chunk.
// * link: bytes per second while the link is what everybody waits for. A chunk that did not wait
//   only shows that the link is at least so fast; so once in a while, and ever more rarely while
//   this leads nowhere, some chunks go raw to find out whether lz4 is what holds the stream up.
// * pack and packed: of this chunk, from a sample (64 KiB of its middle), or else as chunks of its
//   kind were lately. Samples are paid out of an account: 1/512 of the time of the page passes, and
//   of the time spent waiting for the link as large a part as samples lately led to lz4. So with
//   noise they cost next to nothing, and with text on a slow link every chunk has its sample.
//
// Per chunk:  plan() ─► kRaw, kLz4, or kSample: judge() with the sample says which of the two
//             packed() after lz4
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

    // Deltas are nearly all zeros and pack differently: a payload is one when most of it is.
    enum class Content { kPlain, kDelta };

    struct Chunk {
        size_t raw_bytes = 0;
        Duration pass{};  // reading, hashing, deltas: everything but packing and waiting
        Content content = Content::kPlain;
    };
    enum class Plan { kRaw, kLz4, kSample };
    [[nodiscard]] Plan plan(const Chunk& chunk);

    // What lz4 made of some bytes. packed_bytes >= raw_bytes: nothing was saved.
    struct Packing {
        size_t raw_bytes = 0;
        size_t packed_bytes = 0;
        Duration time{};
    };
    // After kSample: what to do with the chunk.
    [[nodiscard]] PageCodec judge(const Packing& sample);
    // After the chunk was packed, whether or not it was worth it.
    void packed(const Packing& whole);

    // The frame of the planned chunk is on its way, and the one before it has been taken: `wait`
    // is how long this thread stood still for that (limiter included). Between two calls the link
    // has taken one frame, whatever else the thread did.
    void sent(size_t frame_bytes, Duration wait, MonotonicTime now);
    // The link will have nothing to do until the next chunk: after a flush, between rounds.
    void link_idle() { in_flight_bytes_ = 0; }

    // Whether deltas would be worth their making on this link: false where raw pages are faster.
    [[nodiscard]] bool deltas_pay() const;

    // For the report.
    struct Choices {
        uint64_t raw_chunks = 0;          // those below among them
        uint64_t sampled_raw_chunks = 0;  // a sample was packed, and spoke for raw
        uint64_t futile_chunks = 0;       // wholly packed, and sent raw: nothing was saved
        uint64_t lz4_chunks = 0;
        uint64_t samples = 0;
        Duration sample_time{};
    };
    [[nodiscard]] const Choices& choices() const { return choices_; }
    // Bytes per second, as estimated so far.
    [[nodiscard]] double link_rate() const { return link_bytes_ / link_ns_ * 1e9; }

  private:
    // 64 KiB of text, about.
    static constexpr double kFirstSampleNs = 100e3;
    static constexpr double kFirstTrialShare = 1;
    // Chunks after which a trial that still sends raw has succeeded.
    static constexpr uint32_t kTrialIsOver = 16;

    // What is known of one kind of content. Costs are nanoseconds per raw byte.
    struct Kind {
        double pack_ns = 0;
        double ratio = 1;  // packed / raw
        double hits = 1;   // the part of samples, and of chunks packed without, that spoke for lz4
        bool known = false;
    };
    [[nodiscard]] bool lz4_wins(double raw_bytes, double pass_ns, double pack_ns,
                                double ratio) const;
    [[nodiscard]] static double sample_cost_ns(const Kind& kind);
    [[nodiscard]] Plan choose(bool lz4);
    [[nodiscard]] bool begin_trial(double raw_bytes, double pass_ns);
    void follow_trial(bool lz4_is_likely);
    [[nodiscard]] bool speaks_for_lz4(const Packing& sample) const;
    void pay_for(const Packing& sample);
    void learn(const Packing& packing, bool hit);
    void measure_link(double interval_ns, bool waited);
    Kind& kind() { return kinds_[static_cast<size_t>(chunk_.content)]; }

    // The chunk between plan() and sent().
    Chunk chunk_;
    bool lz4_ = false;
    bool sampled_ = false;
    double pack_ns_ = 0;  // spent on it

    // By Content. Of deltas a guess until there were some: a few dozen changed bytes in a page.
    std::array<Kind, 2> kinds_{Kind{}, Kind{.pack_ns = 0.3, .ratio = 0.05, .known = true}};
    double pass_ns_per_byte_ = 0.15;
    double account_ns_ = kFirstSampleNs;

    // Decaying sums. At first little is known, of a link of 1 Gb/s: there lz4 matters most.
    double link_bytes_ = 256 << 10;
    double link_ns_ = (256 << 10) * 8.0;
    size_t in_flight_bytes_ = 0;
    MonotonicTime sent_at_{};

    // Raw chunks tried while lz4 keeps the link waiting, paid for out of that time.
    double trial_account_ns_ = 0;
    double trial_share_ = kFirstTrialShare;
    uint32_t trial_left_ = 0;
    uint32_t since_trial_ = kTrialIsOver;

    Choices choices_;
};

}  // namespace godwit
