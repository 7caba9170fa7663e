#include "transport/codec/codec_governor.h"

#include <algorithm>

namespace godwit {
namespace {

// lz4 must save this part of the time; what is less is lost in the noise of measuring.
constexpr double kLeastGain = 1.0 / 32;
// As ChunkCodec: a payload that shrinks less stays raw.
constexpr double kWorstRatio = 15.0 / 16;

// Half a percent of a memcpy of all chunks, if the page pass takes up to 2.5 times as long.
constexpr double kSampleShare = 1.0 / 512;
// Of the time spent waiting for the link while every sample speaks for lz4.
constexpr double kIdleShare = 1.0 / 4;
// The newest sample's weight.
constexpr double kKindWeight = 1.0 / 4;
constexpr double kLinkDecay = 7.0 / 8;
constexpr double kPassWeight = 1.0 / 8;

// Waiting less than this part of the time is not being held up: part of it is the CPU's work of
// handing bytes to the socket.
constexpr double kHeldUp = 1.0 / 4;

// A raw chunk shows its rate when the one after it is sent.
constexpr uint32_t kTrialChunks = 3;
constexpr double kLastTrialShare = 1.0 / 256;

// XOR, and keeping the page's content for the next one.
constexpr double kDeltaNs = 0.12;

double ns_of(Duration duration) { return static_cast<double>(duration.count()); }

void approach(double& average, double value, double weight) {
    average += (value - average) * weight;
}

}  // namespace

bool CodecGovernor::lz4_wins(double raw_bytes, double pass_ns, double pack_ns, double ratio) const {
    if (ratio > kWorstRatio) return false;
    const double wire_ns = raw_bytes * link_ns_ / link_bytes_;
    const double raw = std::max(pass_ns, wire_ns);
    const double lz4 = std::max(pass_ns + pack_ns * raw_bytes, wire_ns * ratio);
    return lz4 < raw * (1 - kLeastGain);
}

double CodecGovernor::sample_cost_ns(const Kind& kind) {
    return kind.known ? kind.pack_ns * kSampleBytes : kFirstSampleNs;
}

CodecGovernor::Plan CodecGovernor::choose(bool lz4) {
    lz4_ = lz4;
    return lz4 ? Plan::kLz4 : Plan::kRaw;
}

CodecGovernor::Plan CodecGovernor::plan(const Chunk& chunk) {
    chunk_ = chunk;
    sampled_ = false;
    pack_ns_ = 0;
    const double pass_ns = ns_of(chunk.pass);
    const auto raw_bytes = static_cast<double>(chunk.raw_bytes);
    if (chunk.raw_bytes == 0) return choose(false);
    approach(pass_ns_per_byte_, pass_ns / raw_bytes, kPassWeight);
    account_ns_ += pass_ns * kSampleShare;

    if (trial_left_ > 0) {
        --trial_left_;
        return choose(false);
    }
    const Kind& known = kind();
    const bool likely = known.known && lz4_wins(raw_bytes, pass_ns, known.pack_ns, known.ratio);
    if (chunk.content == Content::kPlain) {
        follow_trial(likely);
        if (likely && begin_trial(raw_bytes, pass_ns)) return choose(false);
    }
    // Not even free and perfect packing would help: the link is faster than the page pass.
    if (!lz4_wins(raw_bytes, pass_ns, 0, 0)) return choose(false);
    if (account_ns_ < sample_cost_ns(known)) return choose(likely);
    // What is hardly more than a sample is its own.
    if (chunk.raw_bytes > 2 * kSampleBytes) return Plan::kSample;
    sampled_ = true;
    return choose(true);
}

bool CodecGovernor::begin_trial(double raw_bytes, double pass_ns) {
    const double loss_ns =
        raw_bytes * link_ns_ / link_bytes_ - (pass_ns + kind().pack_ns * raw_bytes);
    if (trial_account_ns_ < loss_ns * kTrialChunks) return false;
    trial_account_ns_ = 0;
    trial_left_ = kTrialChunks - 1;
    since_trial_ = 0;
    return true;
}

void CodecGovernor::follow_trial(bool lz4_is_likely) {
    if (since_trial_ == kTrialIsOver) return;
    ++since_trial_;
    if (lz4_is_likely) {  // so soon: raw was no better
        since_trial_ = kTrialIsOver;
        trial_share_ = std::max(trial_share_ / 2, kLastTrialShare);
    } else if (since_trial_ == kTrialIsOver) {
        trial_share_ = kFirstTrialShare;
    }
}

PageCodec CodecGovernor::judge(const Packing& sample) {
    sampled_ = true;
    lz4_ = speaks_for_lz4(sample);
    pay_for(sample);
    learn(sample, lz4_);
    return lz4_ ? PageCodec::kLz4 : PageCodec::kRaw;
}

void CodecGovernor::packed(const Packing& whole) {
    const bool instead_of_sample = sampled_ && pack_ns_ == 0;
    const bool saved = static_cast<double>(whole.packed_bytes) <=
                       kWorstRatio * static_cast<double>(whole.raw_bytes);
    const bool hit = instead_of_sample ? speaks_for_lz4(whole) : saved;
    if (instead_of_sample)
        pay_for(whole);
    else
        pack_ns_ += ns_of(whole.time);
    learn(whole, hit);
    lz4_ = saved;
    if (!saved) ++choices_.futile_chunks;
}

bool CodecGovernor::speaks_for_lz4(const Packing& sample) const {
    const auto sample_bytes = static_cast<double>(sample.raw_bytes);
    return lz4_wins(static_cast<double>(chunk_.raw_bytes), ns_of(chunk_.pass),
                    ns_of(sample.time) / sample_bytes,
                    static_cast<double>(sample.packed_bytes) / sample_bytes);
}

void CodecGovernor::pay_for(const Packing& sample) {
    pack_ns_ += ns_of(sample.time);
    account_ns_ -= ns_of(sample.time);
    ++choices_.samples;
    choices_.sample_time += sample.time;
}

void CodecGovernor::learn(const Packing& packing, bool hit) {
    Kind& known = kind();
    const auto raw_bytes = static_cast<double>(packing.raw_bytes);
    const double pack_ns = ns_of(packing.time) / raw_bytes;
    const double ratio = std::min(1.0, static_cast<double>(packing.packed_bytes) / raw_bytes);
    const double weight = known.known ? kKindWeight : 1;
    approach(known.pack_ns, pack_ns, weight);
    approach(known.ratio, ratio, weight);
    approach(known.hits, hit ? 1 : 0, kKindWeight);
    known.known = true;
}

void CodecGovernor::sent(size_t frame_bytes, Duration wait, MonotonicTime now) {
    const double wait_ns = ns_of(wait);
    const double chunk_ns = ns_of(chunk_.pass) + pack_ns_ + wait_ns;
    const bool waited = wait_ns > chunk_ns * kHeldUp;
    // More than the chunk's where chunks without a frame came between.
    measure_link(ns_of(now - sent_at_), waited);
    in_flight_bytes_ = frame_bytes;
    sent_at_ = now;

    if (lz4_ && !waited) trial_account_ns_ += chunk_ns * trial_share_;

    // Two samples in hand are enough: a long wait is not spent later, in one go.
    const Kind& known = kind();
    const double in_hand_ns = known.known ? 2 * sample_cost_ns(known) : kFirstSampleNs;
    account_ns_ = std::min(account_ns_ + wait_ns * kIdleShare * known.hits, in_hand_ns);

    ++(lz4_ ? choices_.lz4_chunks : choices_.raw_chunks);
    if (sampled_ && !lz4_) ++choices_.sampled_raw_chunks;
}

void CodecGovernor::measure_link(double interval_ns, bool waited) {
    // Since the last call the link took the frame before this one, and nothing else. A small one
    // would measure system calls.
    if (in_flight_bytes_ < kSampleBytes || interval_ns <= 0) return;
    const auto bytes = static_cast<double>(in_flight_bytes_);
    if (!waited && bytes * link_ns_ <= link_bytes_ * interval_ns) return;
    link_bytes_ = link_bytes_ * kLinkDecay + bytes;
    link_ns_ = link_ns_ * kLinkDecay + interval_ns;
}

bool CodecGovernor::deltas_pay() const {
    const Kind& deltas = kinds_[static_cast<size_t>(Content::kDelta)];
    const auto bytes = static_cast<double>(kChunkBytes);
    return lz4_wins(bytes, pass_ns_per_byte_ * bytes, kDeltaNs + deltas.pack_ns, deltas.ratio);
}

}  // namespace godwit
