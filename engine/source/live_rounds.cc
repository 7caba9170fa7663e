#include "engine/source/live_rounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/source/confirmation.h"
#include "engine/source/first_round.h"
#include "engine/source/held_rounds.h"
#include "engine/source/round_forecast.h"
#include "engine/source/tracking.h"

namespace godwit {
namespace {

// A drain waits for the disk; a disk that hangs longer than this hangs the guest as well.
constexpr Duration kDrainLimit = std::chrono::seconds(30);
// One round may take long on a slow link, but a link that is silent this long is lost anyway.
constexpr Duration kRoundLimit = std::chrono::hours(24);
constexpr Duration kCauseLimit = std::chrono::seconds(1);
// Until a settling round was seen: hashing runs at memory speed, this is the low end.
constexpr double kFirstCheckRate = 2e9;
// A round with fewer pages says more about latency than about the rate.
constexpr uint64_t kMinRatePages = 2048;
// Of a copy in the pause, where nothing was measured: the guard must not end it for being slow.
constexpr double kSlowestCopy = 50e6;
// As QEMU's auto-converge has them by default, but steeper: each step costs a round.
constexpr uint32_t kFirstThrottle = 20;
constexpr uint32_t kThrottleStep = 20;
constexpr uint32_t kMaxThrottle = 99;
// Of a migration that is held: between its rounds.
constexpr Duration kHeldPace = std::chrono::milliseconds(500);

void add_totals(const RoundTotals& totals, v1::PageCounts& pages) {
    pages.set_zero(pages.zero() + totals.zero_pages);
    pages.set_unchanged(pages.unchanged() + totals.unchanged_pages);
    pages.set_lz4(pages.lz4() + totals.lz4_pages);
    pages.set_zstd(pages.zstd() + totals.zstd_pages);
    pages.set_raw(pages.raw() + totals.raw_pages);
    pages.set_delta(pages.delta() + totals.delta_pages);
}

void report_progress(SourceContext& context, const v1::Round& round, const RoundPart& part) {
    v1::Progress progress = context.progress;
    progress.set_round(round.index());
    progress.set_total_pages(part.before + round.dirty_pages() + part.after);
    progress.set_done_pages(part.before + context.sender->done_pages());
    progress.set_elapsed_ms(to_ms(Clock::system().now() - context.started_at));
    context.log.progress(progress);
}

// Whether the guest is to resume at the destination before this round is over.
bool is_time_to_switch(const SourceContext& context, const v1::Round& round, const RoundPart& part,
                       MonotonicTime round_began) {
    if (!context.may_switch) return false;
    if (context.switch_requested) return true;
    const MonotonicTime now = Clock::system().now();
    // Late already: that is known without a rate.
    if (must_switch_by(context.settings.finish_by, now - context.started_at, 0, 1)) return true;
    const uint64_t done = context.sender->done_pages();
    const double seconds = std::chrono::duration<double>(now - round_began).count();
    if (done < kMinRatePages || seconds <= 0) return false;
    // The guest writes as fast as in the last round; of the first nothing is known yet.
    const auto rewritten = static_cast<uint64_t>(context.progress.dirty_pages_per_s() * seconds);
    return must_switch_by(context.settings.finish_by, now - context.started_at,
                          round.dirty_pages() - std::min(done, round.dirty_pages()) + part.after +
                              std::min(done, rewritten),
                          static_cast<double>(done * kPageBytes) / seconds);
}

// Waits for the workers; a cancel, a dead guest or a lost stream ends the wait, as does the
// deadline.
absl::Status await_workers(SourceContext& context, const v1::Round& round, const RoundPart& part,
                           bool may_cut, MonotonicTime deadline) {
    const MonotonicTime begin = Clock::system().now();
    while (true) {
        const MonotonicTime now = Clock::system().now();
        if (may_cut && is_time_to_switch(context, round, part, begin)) context.sender->cut_short();
        if (context.sender->wait(std::min(deadline, now + std::chrono::milliseconds(100))))
            return absl::OkStatus();
        report_progress(context, round, part);
        const bool late = Clock::system().now() >= deadline;
        if (!late && context.signals.problem().ok() && !context.signals.seen().guest_gone) continue;
        context.streams->shutdown();  // unblocks the workers
        context.sender->wait(MonotonicTime::max());
        return late ? absl::DeadlineExceededError("Sending pages took too long")
                    : absl::UnavailableError("Sending pages was interrupted");
    }
}

// A failed stream is a symptom; the signals, given a moment, know the cause.
absl::Status cause_of(SourceContext& context, const absl::Status& symptom) {
    const absl::Status cause =
        context.signals
            .wait("the cause", SourceSignals::Mind::kAll, Clock::system().now() + kCauseLimit,
                  [](const SourceSignals::Seen&) { return false; })
            .status();
    return absl::IsDeadlineExceeded(cause) ? symptom : cause;
}

// Page rate and check rate, from the rounds that can tell.
class Rates {
  public:
    // `limit`: of the bandwidth, 0: none. It may have been lowered since the round began.
    void add(const v1::Round& round, Bytes limit) {
        double seconds = std::max(round.duration_ms() / 1e3, 1e-6);
        if (limit > 0)
            seconds = std::max(
                seconds, static_cast<double>(round.sent_bytes()) / static_cast<double>(limit));
        if (round.drained() && round.index() > 0) {
            if (round.dirty_pages() >= kMinRatePages) check_rate_ = round.rate_bytes_per_s();
        } else if (round.sent_pages() >= kMinRatePages) {
            page_rate_ = static_cast<double>(round.sent_pages() * kPageBytes) / seconds;
        } else if (page_rate_ == 0) {
            page_rate_ = round.rate_bytes_per_s();
        }
    }
    [[nodiscard]] double page_rate() const { return page_rate_; }
    [[nodiscard]] double check_rate() const { return std::max(check_rate_, page_rate_); }

  private:
    double page_rate_ = 0;
    double check_rate_ = kFirstCheckRate;
};

// The rounds of one migration; see live_rounds.h.
class LiveRounds {
  public:
    explicit LiveRounds(SourceContext& context)
        : context_(context),
          follows_disk_(context.settings.track_unsettled && context.vm.spec().disks_size() > 0),
          dirty_(empty_set(context.vm.ram_blocks())),
          disk_(dirty_),
          rest_(dirty_),
          forecaster_(context.settings.limits) {}

    absl::StatusOr<LiveResult> run() {
        absl::StatusOr<LiveResult> result = run_rounds();
        context_.is_held = false;
        return result;
    }

  private:
    absl::StatusOr<LiveResult> run_rounds() {
        const Strategy strategy = context_.settings.limits.strategy;
        const bool live = strategy == Strategy::kPrecopy || strategy == Strategy::kHybrid;
        GODWIT_RETURN_IF_ERROR(start_tracker(context_));
        armed_at_ = Clock::system().now();
        if (!live) return without_rounds();
        // A disk read that was under way before the pages were armed may end after they are read.
        if (follows_disk_) GODWIT_RETURN_IF_ERROR(drain());
        GODWIT_ASSIGN_OR_RETURN(PageSet set, everything());
        bool drained = follows_disk_;
        for (uint32_t index = 0;; ++index) {
            GODWIT_ASSIGN_OR_RETURN(Decision decision, one_round(set, index, drained));
            if (held_.waits(decision.step, is_held_)) {
                GODWIT_RETURN_IF_ERROR(wait_held());
                // What was written meanwhile belongs to the next round, and so does its time.
                GODWIT_RETURN_IF_ERROR(collect());
                decision.step = HeldRounds::step(decision.step);
            } else {
                context_.is_held = false;
            }
            switch (decision.step) {
                case NextStep::kThrottle:
                    GODWIT_RETURN_IF_ERROR(throttle());
                    [[fallthrough]];
                case NextStep::kRound:
                    set = dirty_;
                    drained = false;
                    break;
                case NextStep::kSettlingRound:
                    // collect() re-armed these pages; the drain; then they are read: settled.
                    GODWIT_RETURN_IF_ERROR(drain());
                    set = rest_;
                    clear_pages(disk_);
                    drained = true;
                    break;
                case NextStep::kSwitch:
                case NextStep::kStopAndCopy:
                case NextStep::kPostcopy:
                    if (!follows_disk_) disk_.clear();
                    return LiveResult{std::move(rest_), std::move(dirty_), std::move(disk_),
                                      index + 1, decision};
                case NextStep::kGiveUp:
                    return give_up(decision);
            }
        }
    }

    absl::StatusOr<PageSet> everything() {
        GODWIT_ASSIGN_OR_RETURN(PageSet set, allocated_set(context_.vm.ram_blocks()));
        context_.report.set_touched_bytes(count_pages(set) * kPageBytes);
        return set;
    }

    // Everything is sent after the freeze. The tracker runs already: what is told to proceed does
    // so at once.
    absl::StatusOr<LiveResult> without_rounds() {
        while (may_not_switch()) {
            GODWIT_RETURN_IF_ERROR(wait_held());
            // What this finds is in the rest, which is everything.
            GODWIT_RETURN_IF_ERROR(collect());
            clear_pages(dirty_);
        }
        GODWIT_ASSIGN_OR_RETURN(PageSet set, everything());
        Decision decision{.step = NextStep::kPostcopy, .reason = "post-copy was asked for"};
        if (context_.settings.limits.strategy == Strategy::kStopAndCopy) {
            decision.step = NextStep::kStopAndCopy;
            decision.reason = "stop-and-copy was asked for";
            const Bytes rate = context_.limiter.rate();
            const double seconds =
                static_cast<double>(count_pages(set) * kPageBytes) /
                std::min(rate > 0 ? static_cast<double>(rate) : kSlowestCopy, kSlowestCopy);
            decision.expected_downtime =
                context_.fixed_cost + Duration(static_cast<int64_t>(seconds * 1e9));
        }
        return LiveResult{std::move(set), std::move(dirty_), {}, 0, decision};
    }

    // Ready, it waits for those that belong to it. Who asks for post-copy now has the last word.
    [[nodiscard]] bool may_not_switch() const {
        return context_.settings.hold_limit > Duration::zero() && !context_.switch_requested &&
               !context_.signals.seen().let_go_on;
    }

    absl::Status wait_held() {
        const MonotonicTime now = Clock::system().now();
        context_.is_held = true;
        if (!ready_at_) {
            ready_at_ = now;
            context_.log.message("ready", held_text(context_.settings.id));
        }
        const MonotonicTime limit = *ready_at_ + context_.settings.hold_limit;
        if (now >= limit && context_.signals.end_hold())
            return absl::DeadlineExceededError(
                fmt::format("ready to switch over, it was held for {:.0f} s and nobody let it "
                            "proceed: begin it anew",
                            to_ms(context_.settings.hold_limit) / 1e3));
        const absl::Status status =
            context_.signals
                .wait("the hold", SourceSignals::Mind::kAll, std::min(limit, now + kHeldPace),
                      [](const SourceSignals::Seen& seen) { return seen.let_go_on; })
                .status();
        context_.report.set_held_ms(to_ms(Clock::system().now() - *ready_at_));
        if (status.ok()) context_.log.message("rounds", "told to proceed");
        return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : status;
    }

    [[nodiscard]] absl::Status give_up(const Decision& decision) const {
        return absl::FailedPreconditionError(
            throttle_percent_ == 0
                ? fmt::format("{}; allow a longer --downtime-limit, or take --strategy hybrid, or "
                              "--on-no-converge postcopy, throttle or stop-and-copy",
                              decision.reason)
                : fmt::format("{}, with the vCPUs held back {} % of the time; allow a longer "
                              "--downtime-limit or more --max-data and --max-rounds, or take "
                              "--on-no-converge postcopy or stop-and-copy",
                              decision.reason, throttle_percent_));
    }

    absl::Status throttle() {
        if (throttle_percent_ == kMaxThrottle) return absl::OkStatus();
        const uint32_t percent =
            std::min(kMaxThrottle,
                     throttle_percent_ == 0 ? kFirstThrottle : throttle_percent_ + kThrottleStep);
        GODWIT_RETURN_IF_ERROR(
            annotate(context_.throttle->set(percent), "Cannot hold the vCPUs back"));
        throttle_percent_ = percent;
        context_.report.set_throttle_percent(percent);
        context_.log.message("rounds",
                             fmt::format("the vCPUs are held back {} % of the time", percent));
        return absl::OkStatus();
    }

    absl::Status drain() {
        context_.report.set_drains(context_.report.drains() + 1);
        const MonotonicTime begin = Clock::system().now();
        const absl::Status status = context_.vm.drain_block_io(kDrainLimit);
        shortest_drain_ = std::min(shortest_drain_, Clock::system().now() - begin);
        return annotate(status, "Cannot drain block I/O");
    }

    // The freeze waits for the disk as well. One slow answer of a disk must not make a migration
    // hopeless: what counts is the best that was seen, and a quarter of the limit at most.
    [[nodiscard]] Duration drain_cost() const {
        if (!follows_disk_) return {};
        return std::min(shortest_drain_, context_.settings.limits.downtime_limit / 4);
    }

    // Adds to what is dirty, and begins to count anew.
    absl::Status collect() {
        GODWIT_RETURN_IF_ERROR(context_.tracker->collect(dirty_, follows_disk_ ? disk_ : dirty_));
        add_pages(dirty_, take_damaged(context_));
        armed_at_ = Clock::system().now();
        rest_ = dirty_;
        add_pages(rest_, disk_);
        return absl::OkStatus();
    }

    absl::StatusOr<Decision> one_round(const PageSet& set, uint32_t index, bool drained) {
        const MonotonicTime begin = Clock::system().now();
        v1::Round& round = *context_.report.add_rounds();
        round.set_index(index);
        round.set_drained(drained);
        PageSet unsent;
        if (index == 0 && context_.tries_streams) {
            GODWIT_ASSIGN_OR_RETURN(unsent,
                                    send_first_round(context_, set, round, begin + kRoundLimit));
        } else {
            GODWIT_RETURN_IF_ERROR(
                send_round(context_, set, round, GuestState::kRuns, begin + kRoundLimit));
        }
        context_.at_step(step::kRoundSent);
        const bool cut = context_.sender->was_cut();
        if (!cut) rates_.add(round, context_.limiter.rate());
        // What was cut short has left pages out, and goes on to the switchover.
        is_held_ = !cut && may_not_switch();
        const bool was_idle = held_.is_idle();
        held_.note(round.dirty_pages() * kPageBytes, is_held_);

        clear_pages(dirty_);
        const MonotonicTime armed_at = armed_at_;
        GODWIT_RETURN_IF_ERROR(collect());
        const Duration written_for = armed_at_ - armed_at;
        if (cut) add_pages(rest_, context_.sender->left_out());
        if (!unsent.empty()) add_pages(rest_, unsent);

        const RoundObservation seen{.rounds_done = held_.rounds_done(),
                                    .duration = written_for,
                                    .round_pages = round.dirty_pages(),
                                    .dirty_pages = count_pages(dirty_),
                                    .unsettled_pages = count_pages(rest_),
                                    .page_rate = rates_.page_rate(),
                                    .check_rate = rates_.check_rate(),
                                    .total_page_bytes = held_.page_bytes(),
                                    .touched = context_.report.touched_bytes(),
                                    .fixed_cost = context_.fixed_cost + drain_cost()};
        Decision decision = decide(seen, context_.settings.limits);
        if (cut || (decision.step != NextStep::kSwitch && switch_is_due())) {
            decision.step = NextStep::kPostcopy;
            decision.reason = context_.switch_requested
                                  ? "the switch to post-copy was asked for"
                                  : fmt::format(
                                        "the rest follows after the resume, to be over in "
                                        "{:.1f} s",
                                        to_ms(context_.settings.finish_by) / 1e3);
        }
        if (!held_.is_idle()) forecast(round, seen, decision);
        note(round, decision);
        // An hour of a hold has thousands, each like the last.
        if (was_idle && held_.is_idle())
            context_.report.mutable_rounds()->DeleteSubrange(context_.report.rounds_size() - 2, 1);
        return decision;
    }

    void forecast(v1::Round& round, const RoundObservation& seen, const Decision& decision) {
        const std::optional<Forecast> forecast =
            forecaster_.renew({.seen = seen,
                               .decision = decision,
                               .elapsed_s = to_seconds(Clock::system().now() - context_.started_at),
                               .sent_bytes = context_.streams->sent_bytes(),
                               .throttle_percent = throttle_percent_});
        if (!forecast) return;
        *round.mutable_forecast() = in_proto(*forecast);
        if (round.index() == 0 && !context_.report.has_prediction())
            *context_.report.mutable_prediction() = as_prediction(*forecast, "round 0");
    }

    [[nodiscard]] bool switch_is_due() const {
        if (!context_.may_switch) return false;
        return context_.switch_requested ||
               must_switch_by(context_.settings.finish_by,
                              Clock::system().now() - context_.started_at, count_pages(rest_),
                              rates_.page_rate());
    }

    void note(v1::Round& round, const Decision& decision) {
        round.set_dirty_pages_per_s(decision.dirty_pages_per_s);
        round.set_r(decision.r);
        round.set_expected_downtime_ms(to_ms(decision.expected_downtime));
        round.set_unsettled_pages(count_pages(rest_));
        round.set_decision(decision.reason);
        context_.progress.set_rate_bytes_per_s(round.rate_bytes_per_s());
        context_.progress.set_dirty_pages_per_s(decision.dirty_pages_per_s);
        context_.progress.set_r(decision.r);
        context_.progress.set_expected_downtime_ms(round.expected_downtime_ms());
        if (!held_.is_idle()) context_.log.round(round);
    }

    SourceContext& context_;
    const bool follows_disk_;  // whether a disk may write pages behind the tracker's back
    PageSet dirty_;            // written since they were last read
    PageSet disk_;             // a disk may still be writing them, until the next drain
    PageSet rest_;             // both
    MonotonicTime armed_at_;   // since when writes were counted: a drain before a round is part
    Duration shortest_drain_ = kDrainLimit;  // of this migration
    Rates rates_;
    RoundForecaster forecaster_;
    HeldRounds held_;
    bool is_held_ = false;                   // as the last round found it
    std::optional<MonotonicTime> ready_at_;  // of a migration that is held
    uint32_t throttle_percent_ = 0;
};

}  // namespace

PageSet empty_set(std::span<const RamBlock> blocks) {
    PageSet set;
    for (const RamBlock& block : blocks) set.emplace_back(block.page_count());
    return set;
}

absl::StatusOr<PageSet> allocated_set(std::span<const RamBlock> blocks) {
    PageSet set = empty_set(blocks);
    for (BlockIndex b = 0; b < blocks.size(); ++b)
        GODWIT_RETURN_IF_ERROR(
            for_each_data_extent(blocks[b].file.get(), blocks[b].size,
                                 [&](PageRange extent) { set[b].set_range(extent); }));
    return set;
}

absl::Status send_round(SourceContext& context, const PageSet& set, v1::Round& round,
                        GuestState guest, MonotonicTime deadline, RoundKind kind,
                        const RoundPart& part) {
    const uint32_t marker = context.next_marker++;
    const MonotonicTime begin = Clock::system().now();
    const Bytes wire_before = context.streams->sent_bytes();
    round.set_dirty_pages(count_pages(set));
    context.sender->begin(set, marker, guest, kind);
    absl::Status sent = await_workers(
        context, round, part, guest == GuestState::kRuns && kind == RoundKind::kPages, deadline);
    const absl::StatusOr<RoundTotals> totals = context.sender->finish();
    if (sent.ok()) sent = totals.status();
    if (!sent.ok()) return cause_of(context, sent);
    ConfirmationLimits limits{.deadline = deadline};
    // Of punches a socket holds minutes of work; their rounds have deadlines of their own.
    if (kind == RoundKind::kPunches) limits.most_looks = std::numeric_limits<int>::max();
    GODWIT_RETURN_IF_ERROR(await_confirmation(context.signals, *context.streams, marker, limits));

    const double seconds = std::chrono::duration<double>(Clock::system().now() - begin).count();
    round.set_sent_pages(totals->sent_pages());
    round.set_sent_bytes(context.streams->sent_bytes() - wire_before);
    round.set_duration_ms(seconds * 1e3);
    round.set_rate_bytes_per_s(static_cast<double>(round.dirty_pages() * kPageBytes) / seconds);
    round.set_wire_bytes_per_s(static_cast<double>(round.sent_bytes()) / seconds);
    add_totals(*totals, *round.mutable_pages());
    add_totals(*totals, *context.report.mutable_pages());
    round.mutable_codec()->set_raw_chunks(totals->raw_chunks);
    round.mutable_codec()->set_lz4_chunks(totals->lz4_chunks);
    round.mutable_codec()->set_zstd_chunks(totals->zstd_chunks);
    round.mutable_codec()->set_samples(totals->samples);
    return absl::OkStatus();
}

PageSet take_damaged(SourceContext& context) {
    PageSet set = empty_set(context.vm.ram_blocks());
    const SourceStreams::Damage damage = context.streams->take_damage();
    if (damage.frames == 0) return set;
    for (const ChunkPages& pages : damage.pages) {
        context.sender->forget(pages);
        for_each_run(pages.pages, [&](PageRange run) {
            const PageIndex first = pages.chunk * kPagesPerChunk;
            set[pages.block].set_range({first + run.begin, first + run.end});
        });
    }
    context.report.set_damaged_frames(context.report.damaged_frames() + damage.frames);
    context.log.message("rounds",
                        fmt::format("{} frames came damaged to the destination: their {} pages are "
                                    "sent again",
                                    damage.frames, count_pages(set)));
    return set;
}

absl::StatusOr<LiveResult> run_live_rounds(SourceContext& context) {
    return LiveRounds(context).run();
}

}  // namespace godwit
