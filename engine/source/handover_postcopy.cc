// Handover: what a guest needs that resumes before its last pages are there.
#include <fmt/format.h>

#include <algorithm>

#include "engine/source/handover.h"

namespace godwit {
namespace {

using Seen = SourceSignals::Seen;
using Mind = SourceSignals::Mind;

// Registering memory takes microseconds; the destination may be busy.
constexpr Duration kArmLimit = std::chrono::seconds(10);
// An early pass waits for the destination to punch; the guest runs.
constexpr Duration kEarlyLimit = std::chrono::minutes(10);
// 2.9-3.6 us each: about 2 ms of pause.
constexpr uint64_t kMaxLatePunches = 500;
// Each pass leaves what the guest wrote meanwhile to pages that were not stale yet; there are only
// so many of these.
constexpr int kMaxEarlyPasses = 8;
// A chunk with more stale runs than this is dropped whole: what was good of it is sent again.
constexpr uint64_t kMaxRunsOfChunk = 16;

uint64_t run_count(const ChunkMask& mask) {
    uint64_t runs = 0;
    for_each_run(mask, [&](PageRange) { ++runs; });
    return runs;
}

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
    // A hybrid that has converged may still write more in its last moment than was expected.
    if (live.decision.step != NextStep::kPostcopy && strategy != Strategy::kHybrid)
        return absl::OkStatus();
    with_rest_ = live.decision.step == NextStep::kPostcopy;
    for (const v1::Round& round : context_.report.rounds())
        if (round.sent_pages() > 0) page_rate_ = std::max(page_rate_, round.rate_bytes_per_s());
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
                       .tcp = context_.tcp,
                       .source_addresses = settings.source_addresses,
                       .placement = context_.placement,
                       .blocks = context_.vm.ram_blocks(),
                       .log = &context_.log}));
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

void Handover::widen(PageSet& stale) const {
    const std::span<const RamBlock> blocks = context_.vm.ram_blocks();
    for_each_chunk(stale, [&](BlockIndex block, ChunkIndex chunk, const ChunkMask& mask) {
        // Huge pages are stale as a whole.
        const bool whole = blocks[block].backing == Backing::kHugetlb2M;
        if (whole || (context_.sender->was_sent(block, chunk) && run_count(mask) > kMaxRunsOfChunk))
            stale[block].set_range({chunk * kPagesPerChunk, (chunk + 1) * kPagesPerChunk});
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

// The guest runs meanwhile: what it writes to pages that are stale already costs nothing more.
absl::Status Handover::punch_early(LiveResult& live) {
    PageSet fresh = live.rest;
    for (int pass = 0;; ++pass) {
        widen(fresh);
        context_.report.mutable_postcopy()->set_early_punches(
            context_.report.postcopy().early_punches() + punch_count(fresh));
        GODWIT_RETURN_IF_ERROR(send_punches(fresh, live.next_round++, GuestState::kRuns,
                                            Clock::system().now() + kEarlyLimit));
        add_pages(missing_, fresh);
        PageSet written;
        for (const PageBitmap& block : missing_) written.emplace_back(block.page_count());
        GODWIT_RETURN_IF_ERROR(context_.tracker->collect(written, written));
        add_pages(live.rest, written);
        live.recent = written;
        fresh = std::move(written);
        remove_pages(fresh, missing_);
        if (punch_count(fresh) <= kMaxLatePunches || pass + 1 == kMaxEarlyPasses) break;
    }
    context_.at_step(step::kPunchedEarly);
    return absl::OkStatus();
}

bool Handover::resumes_with_all_pages(const PageSet& last) const {
    if (with_rest_) return false;
    const double bytes = static_cast<double>(count_pages(last) * kPageBytes);
    const double limit =
        std::chrono::duration<double>(context_.settings.limits.last_set_limit).count();
    return bytes <= limit * page_rate_ || bytes == 0;
}

absl::Status Handover::punch_late(PageSet last, const PageSet& recent, uint32_t index) {
    remove_pages(last, missing_);
    widen(last);
    remove_pages(last, missing_);
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
