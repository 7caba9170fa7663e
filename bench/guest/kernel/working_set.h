// The working set of one vCPU: pages that prove who they are and how new they are.
//
// Each page carries its tag, a write counter and sums (page_format.h). The counter is also kept in
// two arrays elsewhere, the second one inverted, and their total in this object: so a page, a page
// of counters, or both together that fall back to an older state are noticed.
#pragma once

#include <cstdint>

#include "bench/guest/kernel/config.h"
#include "bench/guest/mailbox_layout.h"
#include "bench/guest/page_format.h"

namespace godwit::guest {

struct Counters {
    uint32_t* expected = nullptr;
    uint32_t* inverted = nullptr;
};

class WorkingSet {
  public:
    // Owns pages [first, first + count) of the set that `mailbox.regions` describes; `counters` are
    // indexed by the page's number in the whole set.
    void start(const Config& config, const Mailbox& mailbox, Counters counters, unsigned vcpu);
    // Fills page `first() + offset` for the first time.
    void fill(uint64_t offset);
    // Checks the next page of the pattern, then writes it.
    void write_next();
    // Checks the next page of the sweep.
    void sweep_next();

    [[nodiscard]] uint64_t first() const { return first_; }
    [[nodiscard]] uint64_t count() const { return count_; }
    [[nodiscard]] uint64_t writes() const { return writes_; }
    [[nodiscard]] uint64_t checked() const { return checked_; }
    [[nodiscard]] uint64_t sweeps() const { return sweeps_; }
    [[nodiscard]] uint64_t errors() const { return errors_; }
    [[nodiscard]] uint64_t first_bad_page() const { return first_bad_page_; }
    [[nodiscard]] GuestFault first_bad_kind() const { return first_bad_kind_; }

  private:
    [[nodiscard]] uint64_t* page(uint64_t offset) const;
    uint64_t pick();
    uint64_t random();
    uint64_t content_word();
    [[nodiscard]] GuestFault judge(uint64_t offset, const uint64_t* words) const;
    void check(uint64_t offset);
    void report(uint64_t offset, GuestFault fault);
    void rewrite(uint64_t offset, uint32_t count);
    void change_body(uint64_t* words, PageSums& sums, uint32_t count);
    void end_sweep();

    const Mailbox* mailbox_ = nullptr;
    Counters counters_;
    Pattern pattern_ = Pattern::kSequential;
    Fill fill_ = Fill::kZero;
    uint64_t seed_ = 0;
    uint64_t change_bytes_ = 0;
    uint64_t hot_writes_percent_ = 0;
    uint64_t hot_pages_ = 0;
    uint64_t first_ = 0;
    uint64_t count_ = 0;
    uint64_t cursor_ = 0;  // of pattern=seq
    uint64_t random_state_ = 0;

    uint64_t sweep_cursor_ = 0;
    uint64_t total_ = 0;        // of all expected counters
    uint64_t swept_total_ = 0;  // of the counters of pages [0, sweep_cursor_)
    bool ledger_valid_ = true;  // no page was rewritten in this sweep

    uint64_t writes_ = 0;
    uint64_t checked_ = 0;
    uint64_t sweeps_ = 0;
    uint64_t errors_ = 0;
    uint64_t first_bad_page_ = kNoPage;
    GuestFault first_bad_kind_ = GuestFault::kNone;
};

}  // namespace godwit::guest
