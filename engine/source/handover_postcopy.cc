// Handover: what a guest needs that resumes before its last pages are there.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "engine/model/dropped_pages.h"
#include "engine/source/handover.h"
#include "engine/source/in_doubt.h"
#include "engine/source/stale_chunks.h"

namespace godwit {
namespace {

using Seen = SourceSignals::Seen;
using Mind = SourceSignals::Mind;

// Registering memory takes microseconds; the destination may be busy.
constexpr Duration kArmLimit = std::chrono::seconds(10);
// An early pass waits for the destination to punch; the guest runs.
constexpr Duration kEarlyLimit = std::chrono::minutes(10);
// At most some 5 ms of pause.
constexpr uint64_t kMaxLatePunches = 500;
// Seen at the destination: 2-4 us for a page that is put in place by itself.
constexpr double kLatePageSeconds = 4e-6;
constexpr double kMaxLateSendSeconds = 2e-3;
// What takes longer to send than this is no afterthought: the policy of the rounds settled for it.
// What takes less shortens the pause by nearly as much, for a guest that writes slower than the
// link carries; the migration takes longer by what is written meanwhile.
constexpr Duration kCatchUpLimit = std::chrono::milliseconds(50);
constexpr Duration kMomentLimit = std::chrono::milliseconds(2);
constexpr int kMaxCatchUps = 3;
constexpr uint64_t kFewPages = 32;
constexpr Duration kCatchUpDeadline = std::chrono::seconds(10);
// Each pass leaves what the guest wrote meanwhile to pages that were not stale yet; there are only
// so many of these.
constexpr int kMaxEarlyPasses = 8;

// Calls visit(block, chunk, mask) for each chunk that has pages in the set.
template <typename Visit>
void for_each_chunk(const PageSet& set, Visit&& visit) {
    for (BlockIndex block = 0; block < set.size(); ++block)
        for (PageIndex page = set[block].next_set(0); page < set[block].page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            visit(block, chunk, chunk_mask(set[block], chunk));
            page = set[block].next_set((chunk + 1) * kPagesPerChunk);
        }
}

void remove_pages(PageSet& set, const PageSet& other) {
    for (BlockIndex block = 0; block < set.size(); ++block) set[block].remove(other[block]);
}

}  // namespace

absl::Status Handover::make_ready(LiveResult& live) {
    const Strategy strategy = context_.settings.limits.strategy;
    for (const v1::Round& round : context_.report.rounds())
        if (round.sent_pages() > 0) {
            page_rate_ = std::max(page_rate_, round.rate_bytes_per_s());
            sent_rate_ = std::max(sent_rate_, static_cast<double>(round.sent_pages() * kPageBytes) /
                                                  std::max(round.duration_ms() / 1e3, 1e-6));
        }
    // A hybrid that has converged may still write more in its last moment than was expected.
    if (live.decision.step != NextStep::kPostcopy && strategy != Strategy::kHybrid)
        return absl::OkStatus();
    // A rest that is sent in a moment is sent: it needs no dropping.
    with_rest_ =
        live.decision.step == NextStep::kPostcopy && !is_quickly_sent(live.rest, kMomentLimit);
    GODWIT_RETURN_IF_ERROR(arm_destination());
    const MigrationSettings& settings = context_.settings;
    GODWIT_ASSIGN_OR_RETURN(
        ready_drain_,
        Drain::create({.migration_id = settings.id,
                       .destination = settings.destination,
                       .streams = static_cast<uint16_t>(context_.streams->data().size()),
                       .streams_in_use = context_.streams->in_use(),
                       .limiter = &context_.limiter,
                       .on_limit = [this](Bytes rate) { note_limit(rate); },
                       .on_word_forgotten = context_.forget_operators_word,
                       .tcp = context_.tcp,
                       .source_addresses = settings.source_addresses,
                       .placement = context_.placement,
                       .blocks = context_.vm.ram_blocks(),
                       .log = &context_.log,
                       .is_guest_here =
                           [this] {
                               return is_guest_here(context_.vm) ||
                                      context_.signals.seen().moved_by_others;
                           }}));
    for (const RamBlock& block : context_.vm.ram_blocks())
        missing_.emplace_back(block.page_count());
    if (!with_rest_) return absl::OkStatus();
    return punch_early(live);
}

void Handover::note_limit(Bytes bytes_per_s) {
    context_.record.set_bandwidth_bytes_per_s(bytes_per_s);
    context_.journal.write(context_.record, Journal::Durability::kPageCache).IgnoreError();
}

absl::Status Handover::arm_destination() {
    context_.streams->enter(SourcePhase::kArming);
    GODWIT_RETURN_IF_ERROR(context_.streams->urgent().send(FrameKind::kPostcopyBegin));
    GODWIT_RETURN_IF_ERROR(
        context_.signals
            .wait("preparing the destination for faults", Mind::kAll,
                  Clock::system().now() + kArmLimit,
                  [](const Seen& seen) { return seen.ready_for_faults_at.has_value(); })
            .status());
    armed_ = true;
    return absl::OkStatus();
}

absl::Status Handover::send_punches(const PageSet& stale, uint32_t index, GuestState guest,
                                    MonotonicTime deadline) {
    v1::Round round;  // not one of the report's: nothing is read
    round.set_index(index);
    return send_round(context_, stale, round, guest, deadline, RoundKind::kPunches);
}

uint64_t Handover::punch_count(const PageSet& stale) const {
    uint64_t count = 0;
    for_each_chunk(stale, [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& mask) {
        if (context_.sender->was_sent(block, chunk)) count += run_count(mask);
    });
    return count;
}

void Handover::widen(PageSet& stale, GuestState guest) const {
    const std::span<const RamBlock> blocks = context_.vm.ram_blocks();
    // In the pause, and where its pages are huge and a hole takes one apart, a chunk with many
    // stale runs is dropped whole: what was good of it is sent again. Plans foresee it.
    for_each_chunk(stale, [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& mask) {
        const Backing backing = blocks[block].backing;
        // Huge pages are stale as a whole.
        bool whole = backing == Backing::kHugetlb2M;
        if (!whole && context_.sender->was_sent(block, chunk))
            whole = guest == GuestState::kRuns && backing == Backing::kTmpfs4k
                        ? is_sooner_sent_again(mask, sent_rate_)
                        : run_count(mask) > kMostRunsOfChunk;
        if (whole) stale[block].set_range({chunk * kPagesPerChunk, (chunk + 1) * kPagesPerChunk});
    });
}

// Each punch is pause: those chunks that take the most are dropped whole, until there are few
// enough.
void Handover::widen_to_fit(PageSet& stale) const {
    struct Place {
        uint64_t runs;
        BlockIndex block;
        ChunkIndex chunk;
    };
    uint64_t count = punch_count(stale);
    if (count <= kMaxLatePunches) return;
    std::vector<Place> places;
    for_each_chunk(stale, [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& mask) {
        if (context_.sender->was_sent(block, chunk))
            places.push_back({run_count(mask), block, chunk});
    });
    std::stable_sort(places.begin(), places.end(),
                     [](const Place& one, const Place& two) { return one.runs > two.runs; });
    for (const Place& place : places) {
        if (count <= kMaxLatePunches || place.runs <= 1) break;
        stale[place.block].set_range(
            {place.chunk * kPagesPerChunk, (place.chunk + 1) * kPagesPerChunk});
        count -= place.runs - 1;
    }
}

// Has the destination drop them while the guest runs: what it writes to pages that are stale
// already costs nothing more.
absl::Status Handover::drop(PageSet stale, uint32_t index) {
    widen(stale, GuestState::kRuns);
    context_.report.mutable_postcopy()->set_early_punches(
        context_.report.postcopy().early_punches() + punch_count(stale));
    GODWIT_RETURN_IF_ERROR(
        send_punches(stale, index, GuestState::kRuns, Clock::system().now() + kEarlyLimit));
    add_pages(missing_, stale);
    return absl::OkStatus();
}

// What was written since the last look, and is not stale yet.
absl::StatusOr<PageSet> Handover::collect_fresh(LiveResult& live) {
    PageSet written = empty_set(context_.vm.ram_blocks());
    GODWIT_RETURN_IF_ERROR(context_.tracker->collect(written, written));
    add_pages(live.rest, written);
    live.recent = written;
    remove_pages(written, missing_);
    return written;
}

absl::Status Handover::punch_early(LiveResult& live) {
    PageSet fresh = live.rest;
    for (int pass = 0; pass < kMaxEarlyPasses; ++pass) {
        GODWIT_RETURN_IF_ERROR(drop(std::move(fresh), live.next_round++));
        GODWIT_ASSIGN_OR_RETURN(fresh, collect_fresh(live));
        if (punch_count(fresh) <= kMaxLatePunches) break;
    }
    context_.at_step(step::kPunchedEarly);
    return absl::OkStatus();
}

// Tens of milliseconds have passed since the last round: what was written in them is sent (or known
// to be stale) while the guest still runs, and not in the pause.
absl::Status Handover::catch_up(LiveResult& live) {
    if (context_.settings.limits.strategy == Strategy::kStopAndCopy) return absl::OkStatus();
    if (with_rest_) {
        GODWIT_ASSIGN_OR_RETURN(PageSet fresh, collect_fresh(live));
        if (count_pages(fresh) == 0) return absl::OkStatus();
        return drop(std::move(fresh), live.next_round++);
    }
    uint64_t before = std::numeric_limits<uint64_t>::max();
    for (int pass = 0; pass < kMaxCatchUps; ++pass) {
        GODWIT_RETURN_IF_ERROR(collect_rest(live));
        const uint64_t pages = count_pages(live.rest);
        // Less than this is no pause; and a guest that writes as fast as it is read is not caught.
        if (pages <= kFewPages || pages > before / 2 || !is_quickly_sent(live.rest, kCatchUpLimit))
            break;
        before = pages;
        GODWIT_RETURN_IF_ERROR(send_rest(live));
    }
    return absl::OkStatus();
}

absl::Status Handover::collect_rest(LiveResult& live) {
    const bool follows_disk = !live.unsettled.empty();
    PageSet written = empty_set(context_.vm.ram_blocks());
    GODWIT_RETURN_IF_ERROR(
        context_.tracker->collect(written, follows_disk ? live.unsettled : written));
    add_pages(live.rest, written);
    if (follows_disk) add_pages(live.rest, live.unsettled);
    add_pages(live.recent, written);
    return absl::OkStatus();
}

absl::Status Handover::send_rest(LiveResult& live) {
    v1::Round& round = *context_.report.add_rounds();
    round.set_index(live.next_round++);
    round.set_decision("what was written while the freeze was prepared");
    GODWIT_RETURN_IF_ERROR(send_round(context_, live.rest, round, GuestState::kRuns,
                                      Clock::system().now() + kCatchUpDeadline));
    live.rest = take_damaged(context_);
    clear_pages(live.recent);
    // The wish to switch came now.
    if (context_.sender->was_cut()) add_pages(live.rest, context_.sender->left_out());
    if (!live.unsettled.empty()) add_pages(live.rest, live.unsettled);
    return absl::OkStatus();
}

bool Handover::is_quickly_sent(const PageSet& set, Duration limit) const {
    return static_cast<double>(count_pages(set) * kPageBytes) <=
           std::chrono::duration<double>(limit).count() * page_rate_;
}

bool Handover::resumes_with_all_pages(const PageSet& last) const {
    return !with_rest_ && is_quickly_sent(last, context_.settings.limits.last_set_limit);
}

// Takes out of `stale` what costs less pause sent than punched, up to a limit: a page here and a
// page there over a fast link.
PageSet Handover::take_sooner_sent(PageSet& stale) const {
    struct Place {
        double gained_s;
        double sent_s;
        BlockIndex block;
        ChunkIndex chunk;
        ChunkMask pages;
    };
    PageSet taken = empty_set(context_.vm.ram_blocks());
    if (page_rate_ <= 0) return taken;
    std::vector<Place> places;
    for_each_chunk(stale, [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        if (!context_.sender->was_sent(block, chunk)) return;  // nothing is there to be punched
        const double sent_s = count_pages(pages) * (kPageBytes / page_rate_ + kLatePageSeconds);
        const double gained_s = static_cast<double>(run_count(pages)) * kPunchSeconds - sent_s;
        if (gained_s > 0) places.push_back({gained_s, sent_s, block, chunk, pages});
    });
    std::stable_sort(places.begin(), places.end(), [](const Place& one, const Place& two) {
        return one.gained_s > two.gained_s;
    });
    double left_s = kMaxLateSendSeconds;
    for (const Place& place : places) {
        if (place.sent_s > left_s) continue;
        left_s -= place.sent_s;
        const PageIndex first = place.chunk * kPagesPerChunk;
        for_each_run(place.pages, [&](PageRange run) {
            taken[place.block].set_range({first + run.begin, first + run.end});
        });
    }
    remove_pages(stale, taken);
    return taken;
}

absl::Status Handover::punch_late(PageSet last, const PageSet& recent, uint32_t index) {
    remove_pages(last, missing_);
    if (const PageSet sooner_sent = take_sooner_sent(last); count_pages(sooner_sent) > 0) {
        v1::Round& round = *context_.report.add_rounds();
        round.set_index(index++);
        round.set_frozen(true);
        round.set_decision("pages that are sooner sent than dropped, the guest is stopped");
        GODWIT_RETURN_IF_ERROR(send_round(context_, sooner_sent, round, GuestState::kFrozen,
                                          deadline_, RoundKind::kPagesAmongPunched));
        add_pages(last, take_damaged(context_));
    }
    // Those that are missing already are dropped along: they would cut a chunk into runs.
    widen(last, GuestState::kFrozen);
    widen_to_fit(last);
    context_.report.mutable_postcopy()->set_late_punches(punch_count(last));
    GODWIT_RETURN_IF_ERROR(send_punches(last, index, GuestState::kFrozen, deadline_));
    add_pages(missing_, last);
    ready_drain_->set_missing(missing_, recent);
    ready_drain_->serve(*context_.streams);
    drain_ = std::move(ready_drain_);
    context_.streams->enter(SourcePhase::kSavingServed);
    return context_.streams->urgent().send(FrameKind::kPostcopyFinal);
}

}  // namespace godwit
