#include "bench/guest/kernel/working_set.h"

#include "bench/guest/kernel/cpu.h"
#include "bench/guest/kernel/prose.h"

namespace godwit::guest {

void WorkingSet::start(const Config& config, const Mailbox& mailbox, Counters counters,
                       unsigned vcpu) {
    mailbox_ = &mailbox;
    counters_ = counters;
    pattern_ = config.pattern;
    fill_ = config.fill;
    seed_ = config.seed;
    change_bytes_ = config.change_bytes;
    hot_writes_percent_ = config.hot_writes_percent;
    first_ = mailbox.ws_pages * vcpu / config.vcpu_count;
    count_ = mailbox.ws_pages * (vcpu + 1) / config.vcpu_count - first_;
    hot_pages_ = count_ * config.hot_pages_percent / 100;
    if (hot_pages_ == 0) hot_pages_ = 1;
    random_state_ = (config.seed * kMaxVcpus + vcpu + 1) * 0x9e3779b97f4a7c15 | 1;
}

uint64_t* WorkingSet::page(uint64_t offset) const {
    return words_at(ws_page_address(*mailbox_, first_ + offset));
}

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
uint64_t WorkingSet::random() {
    random_state_ ^= random_state_ >> 12;
    random_state_ ^= random_state_ << 25;
    random_state_ ^= random_state_ >> 27;
    return random_state_ * 0x2545f4914f6cdd1d;
}

uint64_t WorkingSet::content_word() {
    switch (fill_) {
        case Fill::kZero:
            return 0;
        case Fill::kRandom:
            return random();
        case Fill::kText:
            return prose_word(random());
    }
    return 0;
}

uint64_t WorkingSet::pick() {
    switch (pattern_) {
        case Pattern::kSequential:
            break;
        case Pattern::kRandom:
            return scale(random(), count_);
        case Pattern::kHot:
            if (hot_pages_ == count_ || scale(random(), 100) < hot_writes_percent_)
                return scale(random(), hot_pages_);
            return hot_pages_ + scale(random(), count_ - hot_pages_);
    }
    const uint64_t offset = cursor_;
    if (++cursor_ == count_) cursor_ = 0;
    return offset;
}

void WorkingSet::fill(uint64_t offset) {
    rewrite(offset, 1);
    ++total_;
}

void WorkingSet::rewrite(uint64_t offset, uint32_t count) {
    uint64_t* words = page(offset);
    const uint64_t index = first_ + offset;
    words[kTagWord] = page_tag(index, seed_);
    words[kCountWord] = count;
    PageSums sums;
    for (unsigned i = kHeaderWords; i < kWordsPerPage; ++i) {
        const uint64_t word = content_word();
        words[i] = word;
        sums.sum += word;
        sums.weighted += sums.sum;
    }
    sums.add(kTagWord, words[kTagWord]);
    sums.add(kCountWord, words[kCountWord]);
    words[kSumWord] = sums.sum;
    words[kWeightedSumWord] = sums.weighted;
    counters_.expected[index] = count;
    counters_.inverted[index] = ~count;
}

// A run of change_bytes_ bytes, further on with every write. The sums follow each word's change, so
// a wrong word that crept in after the check stays visible.
void WorkingSet::change_body(uint64_t* words, PageSums& sums, uint32_t count) {
    const uint64_t begin = count * change_bytes_ % (kBodyBytes - change_bytes_ + 1);
    const uint64_t end = begin + change_bytes_;
    for (uint64_t at = begin / 8 * 8; at < end; at += 8) {
        uint64_t mask = ~uint64_t{0};
        if (at < begin) mask <<= (begin - at) * 8;
        if (at + 8 > end) mask &= ~uint64_t{0} >> (at + 8 - end) * 8;
        const auto word = static_cast<unsigned>(kHeaderWords + at / 8);
        const uint64_t old_value = words[word];
        const uint64_t new_value = (old_value & ~mask) | (content_word() & mask);
        words[word] = new_value;
        sums.add(word, new_value - old_value);
    }
}

void WorkingSet::write_next() {
    const uint64_t offset = pick();
    check(offset);
    compiler_barrier();
    uint64_t* words = page(offset);
    const uint64_t index = first_ + offset;
    const uint32_t count = counters_.expected[index] + 1;
    PageSums sums{words[kSumWord], words[kWeightedSumWord]};
    if (fill_ != Fill::kZero) change_body(words, sums, count);
    sums.add(kCountWord, count - words[kCountWord]);
    words[kCountWord] = count;
    words[kSumWord] = sums.sum;
    words[kWeightedSumWord] = sums.weighted;
    counters_.expected[index] = count;
    counters_.inverted[index] = ~count;
    ++writes_;
    ++total_;
    if (offset < sweep_cursor_) ++swept_total_;
}

GuestFault WorkingSet::judge(uint64_t offset, const uint64_t* words) const {
    const uint64_t index = first_ + offset;
    const uint32_t expected = counters_.expected[index];
    if (expected != ~counters_.inverted[index]) return GuestFault::kCounters;
    if (sum_page(words) != PageSums{words[kSumWord], words[kWeightedSumWord]})
        return GuestFault::kChecksum;
    if (words[kTagWord] != page_tag(index, seed_)) return GuestFault::kTag;
    if (words[kCountWord] == expected) return GuestFault::kNone;
    return words[kCountWord] < expected ? GuestFault::kStale : GuestFault::kNewer;
}

void WorkingSet::check(uint64_t offset) {
    ++checked_;
    const GuestFault fault = judge(offset, page(offset));
    if (fault == GuestFault::kNone) return;
    report(offset, fault);
    // Written anew, so that one loss counts once.
    rewrite(offset, counters_.expected[first_ + offset] + 1);
    ledger_valid_ = false;
}

void WorkingSet::report(uint64_t offset, GuestFault fault) {
    if (errors_++ != 0) return;
    first_bad_page_ = first_ + offset;
    first_bad_kind_ = fault;
}

void WorkingSet::sweep_next() {
    check(sweep_cursor_);
    swept_total_ += counters_.expected[first_ + sweep_cursor_];
    if (++sweep_cursor_ == count_) end_sweep();
}

void WorkingSet::end_sweep() {
    if (ledger_valid_ && swept_total_ != total_) {
        report(0, GuestFault::kLedger);
        if (errors_ == 1) first_bad_page_ = kNoPage;  // it could be any page
    }
    total_ = swept_total_;
    swept_total_ = 0;
    sweep_cursor_ = 0;
    ledger_valid_ = true;
    ++sweeps_;
}

}  // namespace godwit::guest
