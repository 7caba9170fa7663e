#include "transport/codec/codec_governor.h"

#include <algorithm>

namespace godwit {
namespace {

constexpr std::array kPackers{PageCodec::kLz4, PageCodec::kZstd};

// As ChunkCodec: a payload that shrinks less stays raw.
constexpr double kWorstRatio = 15.0 / 16;

// Of each codec. Together half a percent of a memcpy of all chunks, if the page pass takes up to
// 2.5 times as long.
constexpr double kSampleShare = 1.0 / 1024;
// Of the time spent waiting for the link while every sample leads to something.
constexpr double kIdleShare = 1.0 / 4;
// The newest sample's weight.
constexpr double kKindWeight = 1.0 / 4;
constexpr double kLinkDecay = 7.0 / 8;
constexpr double kLinkBytes = 256 << 10;
constexpr size_t kTellingFrame = 16 << 10;
constexpr double kPassWeight = 1.0 / 8;

// Waiting less than this part of the time is not being held up: part of it is the CPU's work of
// handing bytes to the socket.
constexpr double kHeldUp = 1.0 / 4;

// Sockets take the first frames at once, however slow the link; but not so many chunks.
constexpr size_t kSocketsHold = size_t{3} << 20;
constexpr uint32_t kManyChunks = 32;

// A chunk shows its rate when the one after it is sent.
constexpr uint32_t kTrialChunks = 3;
constexpr double kLastTrialShare = 1.0 / 256;

// XOR, and keeping the page's content for the next one.
constexpr double kDeltaNs = 0.12;

double ns_of(Duration duration) { return static_cast<double>(duration.count()); }

void approach(double& average, double value, double weight) {
    average += (value - average) * weight;
}

}  // namespace

double CodecGovernor::wire_ns(double ratio) const {
    return static_cast<double>(chunk_.raw_bytes) * ratio * link_ns_ / link_bytes_;
}

double CodecGovernor::time_ns(const Cost& cost) const {
    return std::max(ns_of(chunk_.pass) + cost.pack_ns * static_cast<double>(chunk_.raw_bytes),
                    wire_ns(cost.ratio));
}

// Against raw.
bool CodecGovernor::helps(const Cost& cost) const {
    return cost.ratio <= kWorstRatio &&
           time_ns(cost) < time_ns({}) * (1 - least_gain(PageCodec::kLz4));
}

PageCodec CodecGovernor::fastest(const PerCodec<Cost>& costs) const {
    PageCodec best = PageCodec::kRaw;
    double best_ns = time_ns({});
    for (const PageCodec codec : kPackers) {
        const auto index = static_cast<size_t>(codec);
        if (costs[index].ratio > kWorstRatio) continue;
        const double ns = time_ns(costs[index]);
        if (ns >= best_ns * (1 - least_gain(codec))) continue;
        best = codec;
        best_ns = ns;
    }
    return best;
}

// If it were as fast as lz4, which it never is, and left nothing.
bool CodecGovernor::zstd_may_win() const {
    PerCodec<Cost> costs = costs_;
    costs[static_cast<size_t>(PageCodec::kZstd)] = {.pack_ns = cost(PageCodec::kLz4).pack_ns,
                                                    .ratio = 0};
    return fastest(costs) == PageCodec::kZstd;
}

CodecGovernor::Step CodecGovernor::send_by(PageCodec codec) {
    codec_ = codec;
    return {.codec = codec};
}

CodecGovernor::Step CodecGovernor::sample(PageCodec codec) {
    codec_ = codec;
    return {.codec = codec, .is_sample = true};
}

double CodecGovernor::sample_cost_ns(PageCodec codec) const {
    const Kind& known = kind(codec);
    if (known.known) return known.least_pack_ns * kSampleBytes;
    return codec == PageCodec::kLz4 ? kFirstLz4SampleNs : kFirstZstdSampleNs;
}

bool CodecGovernor::can_pay(PageCodec codec) const {
    return account_ns_[static_cast<size_t>(codec)] >= sample_cost_ns(codec);
}

CodecGovernor::Step CodecGovernor::plan(const Chunk& chunk) {
    chunk_ = chunk;
    sampled_ = {};
    pack_ns_ = 0;
    for (const PageCodec codec : kPackers) cost(codec) = kind(codec).cost;
    const double pass_ns = ns_of(chunk.pass);
    if (chunk.raw_bytes == 0) return send_by(PageCodec::kRaw);
    approach(pass_ns_per_byte_, pass_ns / static_cast<double>(chunk.raw_bytes), kPassWeight);
    for (const PageCodec codec : kPackers)
        account_ns_[static_cast<size_t>(codec)] += pass_ns * kSampleShare;

    if (trial_left_ > 0) {
        --trial_left_;
        return send_by(trial_);
    }
    const PageCodec likely = fastest(costs_);
    if (chunk.content == Content::kPlain) {
        follow_trial(likely);
        if (likely != PageCodec::kRaw && begin_trial(likely)) return send_by(trial_);
    }
    // Not even free and perfect packing would help: the link is faster than the page pass.
    if (!helps({.pack_ns = 0, .ratio = 0})) return send_by(PageCodec::kRaw);
    if (chunk.raw_bytes <= 2 * kSampleBytes) return own_sample(likely);
    if (can_pay(PageCodec::kLz4)) return sample(PageCodec::kLz4);
    // What lz4 makes of it is known, about: a sample of zstd need not wait for another of it.
    if (kind(PageCodec::kLz4).known && zstd_may_win() && can_pay(PageCodec::kZstd))
        return sample(PageCodec::kZstd);
    return send_by(likely);
}

// What is hardly more than a sample is its own.
CodecGovernor::Step CodecGovernor::own_sample(PageCodec likely) {
    const bool by_zstd =
        likely == PageCodec::kZstd ||
        (kind(PageCodec::kLz4).known && zstd_may_win() && can_pay(PageCodec::kZstd));
    const PageCodec codec = by_zstd ? PageCodec::kZstd : PageCodec::kLz4;
    if (!can_pay(codec)) return send_by(likely);
    sampled_[static_cast<size_t>(codec)] = true;
    return send_by(codec);
}

bool CodecGovernor::begin_trial(PageCodec likely) {
    if (since_trial_ < kTrialIsOver) return false;
    const bool by_lz4 = likely == PageCodec::kZstd && cost(PageCodec::kLz4).ratio <= kWorstRatio;
    const PageCodec lighter = by_lz4 ? PageCodec::kLz4 : PageCodec::kRaw;
    const double loss_ns =
        time_ns(cost(lighter)) -
        (ns_of(chunk_.pass) + cost(likely).pack_ns * static_cast<double>(chunk_.raw_bytes));
    if (trial_account_ns_ < loss_ns * kTrialChunks) return false;
    trial_account_ns_ = 0;
    trial_ = lighter;
    trial_left_ = kTrialChunks - 1;
    since_trial_ = 0;
    return true;
}

void CodecGovernor::follow_trial(PageCodec likely) {
    if (since_trial_ == kTrialIsOver) return;
    ++since_trial_;
    if (likely > trial_) {  // so soon: the lighter one was no better
        since_trial_ = kTrialIsOver;
        trial_share_ = std::max(trial_share_ / 2, kLastTrialShare);
    } else if (since_trial_ == kTrialIsOver) {
        trial_share_ = kFirstTrialShare;
    }
}

CodecGovernor::Step CodecGovernor::judge(const Packing& packing) {
    sampled_[static_cast<size_t>(codec_)] = true;
    pay_for(packing);
    learn(packing);
    if (codec_ == PageCodec::kZstd) {
        // What zstd can't pack lz4 can't.
        if (!sampled_[static_cast<size_t>(PageCodec::kLz4)])
            cost(PageCodec::kLz4).ratio =
                std::max(cost(PageCodec::kLz4).ratio, cost(PageCodec::kZstd).ratio);
        return decide();
    }
    if (zstd_may_win() && can_pay(PageCodec::kZstd)) return sample(PageCodec::kZstd);
    // zstd leaves less than lz4; but of what lz4 can't pack only a sample tells whether zstd can.
    Cost& zstd = cost(PageCodec::kZstd);
    const double lz4_ratio = cost(PageCodec::kLz4).ratio;
    if (lz4_ratio > kWorstRatio)
        zstd = {};
    else if (kind(PageCodec::kZstd).known)
        zstd.ratio = std::min(zstd.ratio, lz4_ratio);
    return decide();
}

CodecGovernor::Step CodecGovernor::decide() {
    const PageCodec best = fastest(costs_);
    if (sampled_[static_cast<size_t>(PageCodec::kLz4)])
        learn_hit(PageCodec::kLz4, best != PageCodec::kRaw);
    if (sampled_[static_cast<size_t>(PageCodec::kZstd)])
        learn_hit(PageCodec::kZstd, best == PageCodec::kZstd);
    return send_by(best);
}

void CodecGovernor::packed(const Packing& whole) {
    const PageCodec codec = codec_;
    const bool is_own_sample = sampled_[static_cast<size_t>(codec)] && pack_ns_ == 0;
    const bool saved = static_cast<double>(whole.packed_bytes) <=
                       kWorstRatio * static_cast<double>(whole.raw_bytes);
    if (is_own_sample)
        pay_for(whole);
    else
        pack_ns_ += ns_of(whole.time);
    learn(whole);
    learn_hit(codec, is_own_sample ? fastest(costs_) == codec : saved);
    if (saved) return;
    codec_ = PageCodec::kRaw;
    ++choices_.futile_chunks;
}

void CodecGovernor::pay_for(const Packing& sample) {
    pack_ns_ += ns_of(sample.time);
    account_ns_[static_cast<size_t>(codec_)] -= ns_of(sample.time);
    ++choices_.samples;
    choices_.sample_time += sample.time;
}

void CodecGovernor::learn(const Packing& packing) {
    const auto raw_bytes = static_cast<double>(packing.raw_bytes);
    const Cost now{.pack_ns = ns_of(packing.time) / raw_bytes,
                   .ratio = std::min(1.0, static_cast<double>(packing.packed_bytes) / raw_bytes)};
    cost(codec_) = now;
    Kind& known = kind(codec_);
    const double weight = known.known ? kKindWeight : 1;
    approach(known.cost.pack_ns, now.pack_ns, weight);
    approach(known.cost.ratio, now.ratio, weight);
    known.least_pack_ns = known.known ? std::min(known.least_pack_ns, now.pack_ns) : now.pack_ns;
    known.known = true;
}

void CodecGovernor::learn_hit(PageCodec codec, bool hit) {
    approach(kind(codec).hits, hit ? 1 : 0, kKindWeight);
}

void CodecGovernor::sent(size_t frame_bytes, Duration wait, MonotonicTime now) {
    const double wait_ns = ns_of(wait);
    const double chunk_ns = ns_of(chunk_.pass) + pack_ns_ + wait_ns;
    const bool waited = wait_ns > chunk_ns * kHeldUp;
    // More than the chunk's where chunks without a frame came between.
    measure_link(ns_of(now - sent_at_), wait_ns);
    in_flight_bytes_ = frame_bytes;
    sent_at_ = now;

    unwaited_bytes_ = waited ? 0 : unwaited_bytes_ + frame_bytes;
    unwaited_chunks_ = waited ? 0 : unwaited_chunks_ + 1;
    if (codec_ != PageCodec::kRaw &&
        (unwaited_bytes_ > kSocketsHold || unwaited_chunks_ > kManyChunks))
        trial_account_ns_ += chunk_ns * trial_share_;

    // Two samples in hand are enough: a long wait is not spent later, in one go.
    for (const PageCodec codec : kPackers) {
        double& account_ns = account_ns_[static_cast<size_t>(codec)];
        const double in_hand_ns = sample_cost_ns(codec) * (kind(codec).known ? 2 : 1);
        account_ns = std::min(account_ns + wait_ns * kIdleShare * kind(codec).hits, in_hand_ns);
    }

    ++(codec_ == PageCodec::kRaw   ? choices_.raw_chunks
       : codec_ == PageCodec::kLz4 ? choices_.lz4_chunks
                                   : choices_.zstd_chunks);
    const bool sampled = std::find(sampled_.begin(), sampled_.end(), true) != sampled_.end();
    if (sampled && codec_ == PageCodec::kRaw) ++choices_.sampled_raw_chunks;
}

void CodecGovernor::link_idle() {
    in_flight_bytes_ = 0;
    forget_seen();
}

void CodecGovernor::forget_seen() {
    seen_bytes_ = 0;
    seen_ns_ = 0;
    seen_wait_ns_ = 0;
}

void CodecGovernor::measure_link(double interval_ns, double wait_ns) {
    // Since the last call the link took the frame before this one, and nothing else. The smallest
    // would measure system calls; small ones, what the socket has room for: they are taken
    // together.
    if (in_flight_bytes_ < kTellingFrame || interval_ns <= 0) return;
    seen_bytes_ += static_cast<double>(in_flight_bytes_);
    seen_ns_ += interval_ns;
    seen_wait_ns_ += wait_ns;
    if (seen_bytes_ < kLinkBytes) return;
    const bool waited = seen_wait_ns_ > seen_ns_ * kHeldUp;
    if (waited || seen_bytes_ * link_ns_ > link_bytes_ * seen_ns_) {
        link_bytes_ = link_bytes_ * kLinkDecay + seen_bytes_;
        link_ns_ = link_ns_ * kLinkDecay + seen_ns_;
    }
    forget_seen();
}

bool CodecGovernor::deltas_pay() const {
    const Cost& deltas =
        kinds_[static_cast<size_t>(Content::kDelta)][static_cast<size_t>(PageCodec::kLz4)].cost;
    const double with_ns = std::max(pass_ns_per_byte_ + kDeltaNs + deltas.pack_ns,
                                    deltas.ratio * link_ns_ / link_bytes_);
    const double without_ns = std::max(pass_ns_per_byte_, link_ns_ / link_bytes_);
    return deltas.ratio <= kWorstRatio && with_ns < without_ns * (1 - least_gain(PageCodec::kLz4));
}

}  // namespace godwit
