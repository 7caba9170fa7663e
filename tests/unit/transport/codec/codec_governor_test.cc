#include "transport/codec/codec_governor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace godwit {
namespace {

using Content = CodecGovernor::Content;
using Step = CodecGovernor::Step;

// What a codec makes of data; nanoseconds per byte.
struct Packer {
    double pack_ns = 0;
    double ratio = 1;
};
// A kind of data, as measured on a server of 2023; of text zstd takes 1.9 times lz4's time and
// leaves two thirds of what lz4 does.
struct Data {
    Packer lz4;
    Packer zstd;
    Content content = Content::kPlain;

    [[nodiscard]] Packer by(PageCodec codec) const {
        return codec == PageCodec::kRaw ? Packer{} : codec == PageCodec::kLz4 ? lz4 : zstd;
    }
};
constexpr Data kNoise{.lz4 = {.pack_ns = 0.04, .ratio = 1}, .zstd = {.pack_ns = 0.13, .ratio = 1}};
constexpr Data kText{.lz4 = {.pack_ns = 1.3, .ratio = 0.3},
                     .zstd = {.pack_ns = 2.5, .ratio = 0.19}};
constexpr Data kDelta{.lz4 = {.pack_ns = 0.15, .ratio = 0.02},
                      .zstd = {.pack_ns = 0.22, .ratio = 0.017},
                      .content = Content::kDelta};
// Without repetitions, but of few letters: zstd alone makes something of it.
constexpr Data kLetters{.lz4 = {.pack_ns = 0.1, .ratio = 1}, .zstd = {.pack_ns = 2, .ratio = 0.75}};

constexpr double kMemcpyNs = 0.1;
constexpr double kPassNs = 1.25 * kMemcpyNs;
// What handing bytes to a socket costs.
constexpr double kSocketNs = 0.1;

constexpr double kSlow = 50e6;
constexpr double kGigabit = 125e6;
constexpr double kTenGigabit = 1250e6;
constexpr double kLoopback = 3000e6;

// One stream in imagined time: a frame is on the link while the next one is made.
class Stream {
  public:
    explicit Stream(double link_rate) : link_rate_(link_rate) {}

    void set_link_rate(double rate) { link_rate_ = rate; }
    // What each frame costs beside its bytes.
    void set_send_ns(double ns) { send_ns_ = ns; }
    // What is taken without waiting while the link has not sent it yet.
    void set_socket_bytes(size_t bytes) { socket_bytes_ = static_cast<double>(bytes); }

    // A chunk of which nothing had to be sent.
    void look_at_unchanged_chunk() { now_ += kPassNs * kChunkBytes; }

    // What it was sent by.
    PageCodec send(const Data& data, size_t raw_bytes = kChunkBytes) {
        const double pass_ns = kPassNs * static_cast<double>(raw_bytes);
        now_ += pass_ns;
        Step step = governor_.plan(
            {.raw_bytes = raw_bytes, .pass = to_duration(pass_ns), .content = data.content});
        while (step.is_sample)
            step = governor_.judge(pack(data.by(step.codec), CodecGovernor::kSampleBytes));
        double frame_bytes = static_cast<double>(raw_bytes);
        if (step.codec != PageCodec::kRaw) {
            const CodecGovernor::Packing whole = pack(data.by(step.codec), raw_bytes);
            governor_.packed(whole);
            if (whole.packed_bytes >= raw_bytes) step.codec = PageCodec::kRaw;
            frame_bytes = static_cast<double>(whole.packed_bytes);
        }
        const double held_ns = socket_bytes_ / link_rate_ * 1e9;
        const double wait_ns =
            std::max(0.0, link_free_at_ - held_ns - now_) + frame_bytes * kSocketNs + send_ns_;
        now_ += wait_ns;
        link_free_at_ = std::max(now_, link_free_at_) + frame_bytes / link_rate_ * 1e9;
        governor_.sent(static_cast<size_t>(frame_bytes), to_duration(wait_ns),
                       MonotonicTime(to_duration(now_)));
        raw_bytes_ += static_cast<double>(raw_bytes);
        return step.codec;
    }
    bool packs(const Data& data, size_t raw_bytes = kChunkBytes) {
        return send(data, raw_bytes) != PageCodec::kRaw;
    }

    void send_all(const Data& data, size_t chunks) {
        for (size_t i = 0; i < chunks; ++i) send(data);
    }

    // Of what was sent since the last call: against one codec all the time.
    double seconds_per_gib() {
        const double result = (now_ - mark_) / (raw_bytes_ - raw_mark_) * (1 << 30) * 1e-9;
        mark_ = now_;
        raw_mark_ = raw_bytes_;
        return result;
    }
    static double seconds_per_gib(const Data& data, double link_rate, PageCodec codec) {
        const auto [pack_ns, ratio] = data.by(codec);
        const double cpu = kPassNs + pack_ns + kSocketNs * ratio;
        return std::max(cpu, ratio / link_rate * 1e9 + kSocketNs * ratio) * (1 << 30) * 1e-9;
    }

    // The time of all samples, as a part of that of a memcpy of everything.
    [[nodiscard]] double sampling() const {
        return static_cast<double>(governor_.choices().sample_time.count()) /
               (raw_bytes_ * kMemcpyNs);
    }
    [[nodiscard]] const CodecGovernor& governor() const { return governor_; }
    [[nodiscard]] const CodecGovernor::Choices& choices() const { return governor_.choices(); }

  private:
    static Duration to_duration(double ns) { return Duration(static_cast<int64_t>(ns)); }

    CodecGovernor::Packing pack(const Packer& packer, size_t bytes) {
        const double time_ns = packer.pack_ns * static_cast<double>(bytes);
        now_ += time_ns;
        return {.raw_bytes = bytes,
                .packed_bytes = static_cast<size_t>(packer.ratio * static_cast<double>(bytes)),
                .time = to_duration(time_ns)};
    }

    CodecGovernor governor_;
    double link_rate_;
    double socket_bytes_ = 0;
    double send_ns_ = 0;
    double now_ = 0;
    double link_free_at_ = 0;
    double raw_bytes_ = 0;
    double mark_ = 0;
    double raw_mark_ = 0;
};

TEST(CodecGovernor, NoiseCostsNextToNothingOnFastLinks) {
    for (const double rate : {kTenGigabit, kLoopback}) {
        Stream stream(rate);
        stream.send_all(kNoise, 1500);
        EXPECT_EQ(stream.choices().lz4_chunks + stream.choices().zstd_chunks, 0U);
        EXPECT_EQ(stream.choices().futile_chunks, 0U);
        EXPECT_LT(stream.sampling(), 0.005);
        EXPECT_GT(stream.choices().samples, 10U);  // it goes on looking
    }
}

TEST(CodecGovernor, TextIsPackedFromTheFirstChunkOnASlowLink) {
    Stream stream(kGigabit);
    for (size_t i = 0; i < 500; ++i) EXPECT_TRUE(stream.packs(kText)) << i;
    EXPECT_LT(stream.seconds_per_gib(),
              1.05 * Stream::seconds_per_gib(kText, kGigabit, PageCodec::kLz4));
}

TEST(CodecGovernor, WhatSocketsTakeAtOnceIsNoReasonToTryALighterCodec) {
    // On the link that is taken for granted at first zstd is the faster by little: three chunks by
    // lz4 would soon be paid for, and take twice as long here.
    constexpr Data kPacksWell{.lz4 = {.pack_ns = 1.9, .ratio = 0.44},
                              .zstd = {.pack_ns = 2.6, .ratio = 0.24}};
    Stream stream(kSlow);
    stream.set_socket_bytes(size_t{1} << 20);
    stream.send_all(kPacksWell, 40);
    EXPECT_EQ(stream.choices().zstd_chunks, 40U);
}

TEST(CodecGovernor, WhatSystemCallsTakeIsNoSlowLink) {
    // 3 pages of a chunk, and 8 us to send them.
    Stream stream(kLoopback);
    stream.send_all(kText, 1000);
    const double before = stream.governor().link_rate();
    stream.set_send_ns(8e3);
    for (int i = 0; i < 2000; ++i) stream.send(kNoise, 3 * kPageBytes);
    EXPECT_GE(stream.governor().link_rate(), before);
}

TEST(CodecGovernor, WhatPacksVeryWellIsTriedByALighterCodecToo) {
    constexpr Data kAlmostEmpty{.lz4 = {.pack_ns = 0.4, .ratio = 0.02},
                                .zstd = {.pack_ns = 0.5, .ratio = 0.015}};
    Stream stream(kTenGigabit);
    stream.send_all(kAlmostEmpty, 200);
    EXPECT_GT(stream.choices().raw_chunks, 0U);
}

TEST(CodecGovernor, SmallFramesTellOfTheLinkToo) {
    // As the push of post-copy has them over a slow link: packed, each is less than a sample.
    constexpr Data kPacksWell{.lz4 = {.pack_ns = 1.9, .ratio = 0.44},
                              .zstd = {.pack_ns = 2.6, .ratio = 0.24}};
    Stream stream(kSlow / 2);
    stream.set_socket_bytes(size_t{1} << 20);
    for (int i = 0; i < 640; ++i) stream.send(kPacksWell, 128 << 10);
    EXPECT_NEAR(stream.governor().link_rate(), kSlow / 2, 0.2 * kSlow / 2);
    EXPECT_GT(stream.choices().zstd_chunks, 600U);
}

TEST(CodecGovernor, TextGoesByZstdWhereTheLinkIsSlowerStill) {
    Stream stream(kSlow);
    stream.send_all(kText, 20);  // in which it learns the link
    stream.seconds_per_gib();
    for (size_t i = 0; i < 500; ++i) EXPECT_EQ(stream.send(kText), PageCodec::kZstd) << i;
    const double seconds = stream.seconds_per_gib();
    EXPECT_LT(seconds, 1.05 * Stream::seconds_per_gib(kText, kSlow, PageCodec::kZstd));
    EXPECT_LT(seconds, 0.8 * Stream::seconds_per_gib(kText, kSlow, PageCodec::kLz4));
}

TEST(CodecGovernor, TextGoesByLz4WhereTheCpuHasNoTimeForZstd) {
    Data text = kText;
    text.zstd.pack_ns = 8;  // many want this CPU
    Stream stream(kSlow);
    stream.send_all(text, 20);
    stream.seconds_per_gib();
    stream.send_all(text, 500);
    EXPECT_LT(stream.choices().zstd_chunks, 20U);
    EXPECT_LT(stream.seconds_per_gib(),
              1.05 * Stream::seconds_per_gib(text, kSlow, PageCodec::kLz4));
}

TEST(CodecGovernor, TextGoesByLz4WhereZstdIsHardlyFaster) {
    Data text = kText;
    text.zstd.ratio = 0.95 * text.lz4.ratio;
    Stream stream(kSlow);
    stream.send_all(text, 500);
    EXPECT_EQ(stream.choices().zstd_chunks, 0U);
    EXPECT_EQ(stream.choices().raw_chunks, 0U);
}

TEST(CodecGovernor, ZstdIsNotSampledWhereLz4IsAsSlowAsTheLink) {
    Stream fast(kTenGigabit);
    fast.send_all(kText, 60);  // in which it learns the link
    const CodecGovernor::Choices before = fast.choices();
    fast.send_all(kText, 1500);
    const CodecGovernor::Choices& after = fast.choices();
    const auto lz4_sample =
        Duration(static_cast<int64_t>(kText.lz4.pack_ns * CodecGovernor::kSampleBytes));
    EXPECT_GT(after.samples, before.samples);
    EXPECT_EQ(after.sample_time - before.sample_time,
              lz4_sample * static_cast<int64_t>(after.samples - before.samples));
    EXPECT_EQ(after.zstd_chunks, before.zstd_chunks);
}

// zstd is the bottleneck here, and yet better than lz4: only trials can tell.
TEST(CodecGovernor, TrialsOfLz4CostLittleWhereZstdIsBetter) {
    constexpr double kBetween = 85e6;
    Stream stream(kBetween);
    stream.send_all(kText, 2000);
    EXPECT_LT(stream.seconds_per_gib(),
              1.06 * Stream::seconds_per_gib(kText, kBetween, PageCodec::kZstd));
    EXPECT_LT(stream.choices().raw_chunks, 20U);
    EXPECT_GT(stream.choices().lz4_chunks, 2U);
    EXPECT_LT(stream.choices().lz4_chunks, 300U);
}

TEST(CodecGovernor, ALinkThatGetsFasterGetsLessOfZstd) {
    for (const auto& [rate, codec] :
         {std::pair{250e6, PageCodec::kLz4}, std::pair{kTenGigabit, PageCodec::kRaw}}) {
        Stream stream(kSlow);
        stream.send_all(kText, 300);
        stream.set_link_rate(rate);
        stream.send_all(kText, 300);
        stream.seconds_per_gib();
        stream.send_all(kText, 500);
        EXPECT_LT(stream.seconds_per_gib(), 1.06 * Stream::seconds_per_gib(kText, rate, codec))
            << rate;
    }
}

TEST(CodecGovernor, WhatLz4CanNotPackGoesByZstdWhereThatCan) {
    Stream stream(kSlow);
    stream.send_all(kLetters, 20);
    for (size_t i = 0; i < 300; ++i) EXPECT_EQ(stream.send(kLetters), PageCodec::kZstd) << i;
}

TEST(CodecGovernor, NoiseStaysRawOnASlowLink) {
    Stream stream(kGigabit);
    stream.send_all(kNoise, 500);
    EXPECT_EQ(stream.choices().lz4_chunks + stream.choices().zstd_chunks, 0U);
    EXPECT_EQ(stream.choices().futile_chunks, 0U);
    EXPECT_LT(stream.seconds_per_gib(),
              1.01 * Stream::seconds_per_gib(kNoise, kGigabit, PageCodec::kRaw));
}

TEST(CodecGovernor, TextStaysRawWhereLz4IsSlowerThanTheLink) {
    for (const double rate : {kTenGigabit, kLoopback}) {
        Stream stream(rate);
        stream.send_all(kText, 60);  // in which it learns the link
        EXPECT_LT(stream.choices().lz4_chunks + stream.choices().zstd_chunks, 30U);
        stream.seconds_per_gib();
        stream.send_all(kText, 1500);
        EXPECT_LT(stream.seconds_per_gib(),
                  1.03 * Stream::seconds_per_gib(kText, rate, PageCodec::kRaw));
    }
}

// lz4 is the bottleneck here, and yet better than raw: only trials can tell.
TEST(CodecGovernor, TrialsOfRawCostLittleWhereLz4IsBetter) {
    constexpr double kBetween = 500e6;
    Stream stream(kBetween);
    stream.send_all(kText, 2000);
    EXPECT_LT(stream.seconds_per_gib(),
              1.06 * Stream::seconds_per_gib(kText, kBetween, PageCodec::kLz4));
    EXPECT_LT(stream.choices().raw_chunks, 150U);
}

TEST(CodecGovernor, ALinkThatGetsSlowerGetsPackedTextAndOneThatGetsFasterRaw) {
    Stream stream(kTenGigabit);
    stream.send_all(kText, 300);
    stream.set_link_rate(kGigabit);
    stream.send_all(kText, 16);
    stream.seconds_per_gib();
    stream.send_all(kText, 500);
    EXPECT_LT(stream.seconds_per_gib(),
              1.05 * Stream::seconds_per_gib(kText, kGigabit, PageCodec::kLz4));
    stream.set_link_rate(kTenGigabit);
    stream.send_all(kText, 100);
    stream.seconds_per_gib();
    stream.send_all(kText, 500);
    EXPECT_LT(stream.seconds_per_gib(),
              1.05 * Stream::seconds_per_gib(kText, kTenGigabit, PageCodec::kRaw));
}

TEST(CodecGovernor, EveryChunkIsJudgedByItselfWhereThereIsTimeForIt) {
    Stream stream(kGigabit);
    size_t packed_text = 0;
    for (size_t i = 0; i < 1000; ++i) {
        const bool text = i * 7919 % 10 < 3;
        const bool packed = stream.packs(text ? kText : kNoise);
        if (text && packed) ++packed_text;
    }
    EXPECT_GT(packed_text, 285U);  // of 300
    EXPECT_LT(stream.choices().futile_chunks, 10U);
}

TEST(CodecGovernor, TextAfterMuchNoiseIsFoundSoon) {
    for (const double rate : {kGigabit, 300e6}) {
        Stream stream(rate);
        stream.send_all(kNoise, 2000);
        size_t sent = 0;
        while (!stream.packs(kText)) ASSERT_LT(++sent, 40U) << rate;
        size_t packed = 0;
        for (size_t i = 0; i < 40; ++i) packed += stream.packs(kText) ? 1 : 0;
        EXPECT_GT(packed, 30U) << rate;  // trials of raw may be among them
    }
}

TEST(CodecGovernor, DeltasPayOnASlowLinkAndArePackedThere) {
    Stream slow(kGigabit);
    slow.send_all(kNoise, 50);
    EXPECT_TRUE(slow.governor().deltas_pay());
    size_t packed = 0;
    for (size_t i = 0; i < 500; ++i) {
        slow.send(kNoise);
        if (slow.send(kDelta) == PageCodec::kLz4) ++packed;
    }
    EXPECT_EQ(packed, 500U);
    EXPECT_EQ(slow.choices().lz4_chunks, 500U);

    Stream fast(kLoopback);
    fast.send_all(kNoise, 50);
    EXPECT_FALSE(fast.governor().deltas_pay());
}

TEST(CodecGovernor, SmallChunksAreTheirOwnSamples) {
    Stream stream(kGigabit);
    for (size_t i = 0; i < 1000; ++i) EXPECT_TRUE(stream.packs(kText, 4 * kPageBytes)) << i;
    Stream noise(kTenGigabit);
    for (size_t i = 0; i < 20000; ++i) noise.send(kNoise, 4 * kPageBytes);
    EXPECT_EQ(noise.choices().lz4_chunks + noise.choices().zstd_chunks, 0U);
    EXPECT_LT(noise.sampling(), 0.01);
}

TEST(CodecGovernor, ChunksWithoutPayloadAreRaw) {
    CodecGovernor governor;
    EXPECT_EQ(governor.plan({.raw_bytes = 0, .pass = std::chrono::microseconds(300)}),
              Step{.codec = PageCodec::kRaw});
    governor.sent(300, Duration(0), MonotonicTime());
    EXPECT_EQ(governor.choices().raw_chunks, 1U);
}

TEST(CodecGovernor, ChunksWithoutAFrameDoNotMakeTheLinkLookFaster) {
    Stream stream(kGigabit);
    stream.send_all(kText, 50);
    size_t packed = 0;
    for (size_t i = 0; i < 200; ++i) {
        for (size_t k = 0; k < i % 40; ++k) stream.look_at_unchanged_chunk();
        packed += stream.packs(kText) ? 1 : 0;
    }
    EXPECT_GT(packed, 185U);  // and a few trials of raw
    EXPECT_LT(stream.governor().link_rate(), 1.1 * kGigabit);
}

TEST(CodecGovernor, TheTimeBetweenRoundsSaysNothingAboutTheLink) {
    CodecGovernor governor;
    MonotonicTime now;
    const auto send = [&](Duration wait) {
        now += std::chrono::microseconds(250) + wait;
        (void)governor.plan({.raw_bytes = kChunkBytes, .pass = std::chrono::microseconds(250)});
        governor.sent(kChunkBytes, wait, now);
    };
    for (size_t i = 0; i < 50; ++i) send(std::chrono::milliseconds(1));
    const double rate = governor.link_rate();
    governor.link_idle();
    now += std::chrono::seconds(10);
    send(Duration(0));
    EXPECT_EQ(governor.link_rate(), rate);
    governor.link_idle();
    now += std::chrono::seconds(10);
    send(std::chrono::milliseconds(1));
    EXPECT_EQ(governor.link_rate(), rate);
}

}  // namespace
}  // namespace godwit
