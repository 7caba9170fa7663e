// SourceAgent: what a guest needs that resumes before its last pages are there.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/handover/step_hook.h"
#include "tests/sim/destination_agent.h"
#include "tests/sim/source_agent.h"
#include "transport/frame/bodies.h"

namespace godwit::sim {
namespace {

using Seen = SourceSignals::Seen;

// As Drain's.
constexpr Duration kConfirmLimit = seconds(60);
constexpr Duration kListLimit = seconds(60);
constexpr Duration kFirstPause = milliseconds(50);
constexpr Duration kLongestPause = seconds(2);
constexpr uint64_t kPagesOfAFrame = 2;

}  // namespace

// --- before COMMIT --------------------------------------------------------------------------

absl::Status SourceAgent::arm_destination() {
    phase_ = SourcePhase::kArming;
    GODWIT_RETURN_IF_ERROR(
        wire_->send(kSourceEnd, {.kind = FrameKind::kPostcopyBegin, .stream = kUrgentStream}));
    GODWIT_RETURN_IF_ERROR(
        wait_for("preparing the destination for faults", hosts_.world.now() + seconds(10),
                 [](const Seen& seen) { return seen.ready_for_faults_at.has_value(); })
            .status());
    armed_ = true;
    return absl::OkStatus();
}

// In the pause: what is stale at the destination is dropped there, and follows the guest.
absl::Status SourceAgent::drop_last_set() {
    std::set<int> stale = std::exchange(qemu().dirty(), {});
    // Whole runs are dropped, what is good of them along.
    for (int page = 0; page < kPages; ++page)
        if (hosts_.world.chance(30)) stale.insert(page);
    if (stale.empty()) stale.insert(0);
    hosts_.kept_ram.keep_content(qemu().memory());
    have_pages();
    for (const int page : stale) {
        at_step("punch");
        GODWIT_RETURN_IF_ERROR(wire_->send(
            kSourceEnd, {.kind = FrameKind::kPunch, .stream = page % kDataStreams, .page = page}));
        pending_->add(0, 0, mask_of(page));
        to_push_[0].set(page);
    }
    missing_there_ = stale.size();
    GODWIT_RETURN_IF_ERROR(send_markers());
    phase_ = SourcePhase::kSavingServed;
    return wire_->send(kSourceEnd, {.kind = FrameKind::kPostcopyFinal, .stream = kUrgentStream});
}

// None is known to be missing.
void SourceAgent::have_pages() {
    const std::span<const RamBlock> blocks = hosts_.kept_ram.blocks();
    pending_.emplace(blocks);
    to_push_.clear();
    to_push_.emplace_back(blocks[0].page_count());
    absl::StatusOr<std::unique_ptr<PageServer>> server =
        PageServer::create(blocks, *pending_, *this);
    if (!server.ok()) return hosts_.world.violated(std::string(server.status().message()));
    server_ = *std::move(server);
}

// --- what it hears --------------------------------------------------------------------------

void SourceAgent::take_in_drain(const SimFrame& frame) {
    switch (frame.kind) {
        case FrameKind::kPageRequest:
            // A connection that is lost is noticed without it.
            if (phase_ != SourcePhase::kOver)
                server_->answer(0, static_cast<PageIndex>(frame.page)).IgnoreError();
            return;
        case FrameKind::kMissing: {
            const uint64_t chunks = hosts_.kept_ram.blocks()[0].chunk_count();
            const auto list = decode_chunk_pages(std::as_bytes(std::span<const char>(frame.text)),
                                                 std::span(&chunks, 1), kMaxMissingChunks);
            if (!list.ok()) return hosts_.world.violated(std::string(list.status().message()));
            for (const ChunkPages& entry : *list) {
                pending_->add(entry.block, entry.chunk, entry.pages);
                for_each_run(entry.pages, [this](PageRange run) { to_push_[0].set_range(run); });
            }
            return;
        }
        case FrameKind::kMissingEnd:
            return signals_.update([](Seen& seen) { ++seen.missing_lists; });
        case FrameKind::kDrained:
            return signals_.update([](Seen& seen) { seen.drained.emplace(); });
        case FrameKind::kGuestGone:
            return signals_.update([&](Seen& seen) { seen.gone_there = frame.text; });
        default:
            return;
    }
}

absl::Status SourceAgent::send(const PageAnswer& answer) {
    SimFrame frame{.kind = answer.origin == PageOrigin::kDemand ? FrameKind::kFaultPages
                                                                : FrameKind::kPrepagedPages,
                   .stream = kUrgentStream};
    std::span<const std::byte> bytes = answer.bytes;
    for (int page = 0; page < kPages; ++page) {
        const uint64_t bit = mask_of(page)[0];
        if ((answer.present[0] & bit) == 0) continue;
        const bool is_zero = (answer.zero[0] & bit) != 0;
        frame.pages.push_back({.page = page, .version = is_zero ? 0 : version_of(bytes)});
        if (!is_zero) bytes = bytes.subspan(kPageBytes);
    }
    return wire_->send(kSourceEnd, frame);
}

// --- DrainSteps -----------------------------------------------------------------------------

DrainSteps::Step SourceAgent::await_resumed(bool in_doubt) {
    // The destination has answered since: its word counts, and not the operator's.
    if (in_doubt) forget_word();
    is_answer_awaited_ = in_doubt;
    hosts_.world.wait(MonotonicTime::max(), [this] {
        const Seen seen = signals_.seen();
        return seen.resumed_at || seen.refused || seen.gone_there || !seen.connection.ok();
    });
    is_answer_awaited_ = false;
    const Seen seen = signals_.seen();
    if (seen.resumed_at) {
        forget_word();
        return Step::kDone;
    }
    if (seen.refused) return Step::kRefused;
    return seen.gone_there ? Step::kGuestGone : Step::kLost;
}

void SourceAgent::now_resumed() {
    in_doubt_ = false;
    is_there_ = true;
    at_step(step::kResumedSeen);
    qemu().kill("the guest is at the destination");
    if (hosts_.mutant == Mutant::kLetsGoAtResumed) hosts_.release_kept_ram();
    if (guard_) guard_->send({.kind = GuardMessageKind::kDismiss});
    record_.set_phase(v1::JOURNAL_PHASE_DRAINING);
    hosts_.source_disk.write(record_, Journal::Durability::kPageCache).IgnoreError();
    at_step(step::kDraining);
}

bool SourceAgent::push_stream(int stream, std::span<const ChunkPlace> share) {
    for (const ChunkPlace& place : share) {
        for (PageIndex page = place.chunk * kPagesPerChunk; page < kPages;) {
            const PageRange run = pending_->take_run(place.block, page, kPagesOfAFrame);
            page = std::max(run.end, page + 1);
            if (run.count() == 0) continue;
            at_step("push");
            SimFrame frame{.kind = FrameKind::kPages, .stream = stream};
            for (PageIndex i = run.begin; i < run.end; ++i) {
                std::array<std::byte, sizeof(int)> bytes{};
                const absl::Status read =
                    read_fully(hosts_.kept_ram.blocks()[place.block].file.get(), bytes.data(),
                               bytes.size(), i * kPageBytes);
                if (!read.ok()) hosts_.world.violated(std::string(read.message()));
                frame.pages.push_back({.page = static_cast<int>(i), .version = version_of(bytes)});
            }
            if (!wire_->send(kSourceEnd, frame).ok()) return false;
        }
    }
    return wire_->send(kSourceEnd, {.kind = FrameKind::kMarker, .stream = stream}).ok();
}

DrainSteps::Step SourceAgent::push() {
    const uint64_t lists = signals_.seen().missing_lists;
    PageSet hot;
    hot.emplace_back(to_push_[0].page_count());
    const PushOrder order(to_push_, hot, kDataStreams);
    clear_pages(to_push_);  // a list that comes later says what is missing then
    for (int stream = 0; stream < kDataStreams; ++stream)
        if (!push_stream(stream, order.share(stream))) break;
    // Behind every page that went with a fault.
    wire_->send(kSourceEnd, {.kind = FrameKind::kMarker, .stream = kUrgentStream}).IgnoreError();
    at_step("pushed");
    hosts_.world.wait(kConfirmLimit, [&] {
        const Seen seen = signals_.seen();
        return seen.drained || seen.gone_there || seen.missing_lists > lists ||
               !seen.connection.ok();
    });
    const Seen seen = signals_.seen();
    if (seen.drained) return Step::kDrained;
    if (seen.gone_there) return Step::kGuestGone;
    return seen.missing_lists > lists ? Step::kDone : Step::kLost;
}

void SourceAgent::hang_up(bool lost) {
    if (lost) hosts_.world.say("source: the drain is interrupted");
    wire_->close(kSourceEnd);
    wire_->on_frame[kSourceEnd] = {};
    wire_->on_closed[kSourceEnd] = {};
}

bool SourceAgent::wait_to_reconnect() {
    is_interrupted_ = true;
    if (pause_ > Duration::zero())
        hosts_.world.wait(pause_, [this] { return std::exchange(is_retry_asked_, false); });
    pause_ = pause_ == Duration::zero() ? kFirstPause : std::min(pause_ * 2, kLongestPause);
    return true;
}

absl::StatusOr<v1::QueryResponse> SourceAgent::ask_to_reconnect() {
    return hosts_.call<v1::QueryResponse>(
        "reconnect", [this] { return hosts_.destination && hosts_.destination->lives(); },
        [this]() -> absl::StatusOr<v1::QueryResponse> {
            v1::QueryResponse answer = hosts_.destination->reconnect();
            if (hosts_.mutant == Mutant::kAsksALostOneForEver) answer.clear_guest_gone();
            return answer;
        });
}

absl::Status SourceAgent::connect(bool resumed) {
    if (wire_) hang_up(false);
    at_step("connect");
    if (!hosts_.destination || !hosts_.destination->lives() || !hosts_.link.up)
        return absl::UnavailableError("no connection");
    signals_.forget_connection();
    signals_.update([](Seen& seen) {
        seen.missing_lists = 0;
        seen.resumed_at.reset();
        seen.refused.reset();
    });
    pending_->clear_all();
    clear_pages(to_push_);
    phase_ = resumed ? SourcePhase::kDraining : SourcePhase::kCommittedServed;
    open_wire();
    const auto is_known = [](const Seen& seen) {
        return seen.missing_lists > 0 || seen.drained || seen.gone_there;
    };
    hosts_.world.wait(kListLimit, [&] {
        const Seen seen = signals_.seen();
        return is_known(seen) || !seen.connection.ok();
    });
    if (!is_known(signals_.seen())) return absl::UnavailableError("no list of missing pages");
    // Fewer than at the last list: pages did get there.
    if (const uint64_t missing = pending_->count(); missing < missing_there_) {
        pause_ = Duration::zero();
        missing_there_ = missing;
    }
    is_interrupted_ = false;
    forget_word();
    return absl::OkStatus();
}

void SourceAgent::still_away(const absl::Status& why) {
    hosts_.world.say("source: " + std::string(why.message()) + "; trying again");
}

// --- its ends -------------------------------------------------------------------------------

// As Drain::give_up().
bool SourceAgent::give_up_drain(Fate fate) {
    if (has_left() && !is_interrupted_) return false;
    given_up_ = fate;
    is_retry_asked_ = true;
    if (!is_answer_awaited_) return true;
    signals_.update([fate](Seen& seen) {
        if (seen.resumed_at || seen.refused) return;
        (fate == Fate::kNowhere ? seen.gone_there : seen.refused) = "an operator said so";
    });
    return true;
}

void SourceAgent::drain() {
    is_draining_ = hosts_.drains = true;
    in_doubt_ = !signals_.seen().resumed_at;
    const DrainEnd ended = drain_in_order(*this, {.connected = true});
    is_draining_ = false;
    in_doubt_ = false;
    switch (ended) {
        case DrainEnd::kRefused:
            if (given_up_) note_resolution(Fate::kRefused);
            return undo("refused in the drain", true);
        case DrainEnd::kGuestGone:
            if (given_up_) note_resolution(Fate::kNowhere);
            qemu().kill("the guest is lost");
            hosts_.release_kept_ram();
            return end(v1::GUEST_AT_NONE, Journal::Durability::kPageCache,
                       "its QEMU ended at the destination");
        case DrainEnd::kDrained:
            at_step(step::kDrained);
            hosts_.release_kept_ram();
            return end(v1::GUEST_AT_DESTINATION, Journal::Durability::kPageCache, "");
        case DrainEnd::kStopped:
            return hosts_.world.violated("a drain was stopped, and nobody had asked for it");
    }
}

// They can't be opened for now. False: they are not needed any more, or lost, and it has ended.
bool SourceAgent::await_last_pages(bool vm) {
    const auto give_it_back = [this, vm](const std::string& why) {
        give_back_and_conclude(vm, why);
    };
    hosts_.world.say("source: it can't open the guest's memory");
    opens_at_ = hosts_.world.now() + hosts_.world.between({}, minutes(1));
    const std::optional<FateAnswer> answer = settle(*this);
    opens_at_.reset();
    if (answer) {
        in_doubt_ = false;
        end_as_said(*answer, give_it_back);
        return false;
    }
    if (qemu().alive()) hosts_.kept_ram.link();
    if (hosts_.kept_ram.exists()) return true;
    hosts_.pages_lost_here = true;
    settle_and_end(give_it_back);
    return false;
}

// As MigrationRegistry::finish_drain().
void SourceAgent::recover_drain(bool vm) {
    in_doubt_ = record_.phase() == v1::JOURNAL_PHASE_FREEZING;
    is_there_ = !in_doubt_;
    if (hosts_.opens_late && !await_last_pages(vm)) return;
    is_draining_ = true;
    is_interrupted_ = is_there_;
    have_pages();
    // Before there was anybody to hear it.
    if (const std::optional<Fate> said = operators_word_.said()) give_up_drain(*said);
    const DrainEnd ended = drain_in_order(*this, {.has_left = is_there_});
    is_draining_ = false;
    switch (ended) {
        case DrainEnd::kRefused:
            if (given_up_) note_resolution(Fate::kRefused);
            return give_back_and_conclude(vm, "refused in the drain");
        case DrainEnd::kGuestGone:
            if (given_up_) note_resolution(Fate::kNowhere);
            qemu().kill("the guest is lost");
            return conclude(v1::GUEST_AT_NONE, "its QEMU ended at the destination");
        case DrainEnd::kDrained:
            return conclude(v1::GUEST_AT_DESTINATION, "drained by a restarted agent");
        case DrainEnd::kStopped:
            return hosts_.world.violated("a drain was stopped, and nobody had asked for it");
    }
}

}  // namespace godwit::sim
