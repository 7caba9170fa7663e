#include "engine/source/handover.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/source/kept_ram.h"
#include "engine/source/source_verify.h"
#include "transport/frame/bodies.h"

namespace godwit {
namespace {

// Verify hashes at memory speed; this is a slow machine under load.
constexpr double kSlowestHashBytesPerS = 100e6;
// The destination answers COMMIT in a few ms; after this the source asks by gRPC instead.
constexpr Duration kHandoverAnswerLimit = std::chrono::seconds(10);
// The agent gives up this much before its guard would.
constexpr Duration kGuardMargin = std::chrono::seconds(2);

using Seen = SourceSignals::Seen;
using Mind = SourceSignals::Mind;

absl::Status save_failed(const Seen& seen) {
    if (seen.has_status("failed"))
        return absl::AbortedError("QEMU could not save the device state");
    if (seen.has_status("cancelled")) return absl::AbortedError("QEMU's migration was cancelled");
    return absl::OkStatus();
}

double unix_ms_of(MonotonicTime time) {
    const Duration ago = Clock::system().now() - time;
    return to_ms(std::chrono::system_clock::now().time_since_epoch() - ago);
}

}  // namespace

absl::Status launch_guard(SourceContext& context) {
    const std::string folder =
        fmt::format("{}/migrations/{}", context.state_dir, context.settings.id);
    GODWIT_ASSIGN_OR_RETURN(GuardProcess guard,
                            GuardProcess::launch({.program = context.guard_program,
                                                  .word_path = context.journal.word_path(),
                                                  .guest_address = context.vm.guard_address(),
                                                  .log_path = folder + "/guard.log"}));
    context.guard.emplace(std::move(guard));
    return absl::OkStatus();
}

absl::Status Handover::start_guard() {
    // It may have been killed since it was launched.
    if (context_.guard && context_.guard->has_ended()) context_.guard.reset();
    if (!context_.guard) GODWIT_RETURN_IF_ERROR(launch_guard(context_));
    GODWIT_RETURN_IF_ERROR(context_.guard->begin(was_running_));
    context_.streams->keep_cpus_awake(context_.placement.cpu_latency);
    return absl::OkStatus();
}

absl::Status Handover::arm_guard() {
    const Duration limit = context_.settings.freeze_limit + 4 * live_.decision.expected_downtime;
    deadline_ = Clock::system().now() + limit;
    return context_.guard->arm(deadline_ + kGuardMargin);
}

// It may have been paused, or let run, since the migration began.
absl::Status Handover::note_run_state() {
    GODWIT_ASSIGN_OR_RETURN(const RunState state, context_.vm.run_state());
    if (state != RunState::kRunning && state != RunState::kPaused)
        return absl::FailedPreconditionError("the guest neither runs nor is paused any more");
    was_running_ = state == RunState::kRunning;
    context_.record.set_was_running(was_running_);
    return absl::OkStatus();
}

absl::Status Handover::note_freezing() {
    context_.record.set_phase(v1::JOURNAL_PHASE_FREEZING);
    context_.record.set_postcopy(armed_);
    if (armed_) plan_kept_ram(context_.vm.ram_blocks(), context_.record);
    GODWIT_RETURN_IF_ERROR(context_.journal.write(context_.record, Journal::Durability::kDisk));
    return armed_ ? link_kept_ram(context_.vm.ram_blocks(), context_.record) : absl::OkStatus();
}

absl::Status Handover::prepare_save() {
    GODWIT_ASSIGN_OR_RETURN(pump_, DeviceStatePump::start(context_.streams->urgent(),
                                                          context_.signals, context_.at_step));
    prepared_ = true;
    return annotate(context_.vm.prepare_device_save(pump_->take_guest_end()),
                    "Cannot prepare the freeze");
}

absl::Status Handover::freeze(LiveResult live) {
    context_.log.message("freeze", live.decision.reason);
    live_ = std::move(live);
    return freeze_in_order(*this);
}

// With a deadline of its own, on top of what is left of the freeze's: hashing takes longer than
// any pause should. With pages missing it is done in the drain.
absl::Status Handover::verify() {
    verified_at_ = loaded_at_;
    if (!context_.settings.verify || drain_) return absl::OkStatus();
    const auto seconds = static_cast<int64_t>(static_cast<double>(context_.report.touched_bytes()) /
                                              kSlowestHashBytesPerS);
    deadline_ += std::chrono::seconds(seconds + 10);
    GODWIT_RETURN_IF_ERROR(context_.guard->arm(deadline_ + kGuardMargin));
    const absl::Status verified = verify_memory(context_, deadline_);
    verified_at_ = Clock::system().now();
    context_.report.set_verify_ms(to_ms(verified_at_ - loaded_at_));
    return verified;
}

void Handover::forgo() {
    dismiss_guard();
    if (prepared_) context_.vm.forgo_device_save();
}

absl::Status Handover::stop_guest() {
    context_.signals.forget_guest();
    if (context_.signals.seen().cancelled) return absl::CancelledError("cancelled");
    stopped_at_ = Clock::system().now();
    began_ = true;
    GODWIT_RETURN_IF_ERROR(context_.vm.begin_device_save());
    GODWIT_ASSIGN_OR_RETURN(
        const Seen seen,
        context_.signals.wait("stopping the guest", Mind::kAll, deadline_, [](const Seen& s) {
            return s.has_status("pre-switchover") || !save_failed(s).ok();
        }));
    GODWIT_RETURN_IF_ERROR(save_failed(seen));
    if (seen.stopped_at) stopped_at_ = *seen.stopped_at;
    quiet_at_ = std::max(seen.migration_status.at("pre-switchover"), stopped_at_);
    return absl::OkStatus();
}

// Pre-switchover is a drain of the block layer: what is read from here on is final.
absl::Status Handover::send_last_set() {
    PageSet last = std::move(live_.rest);
    PageSet recent = std::move(live_.recent);
    GODWIT_RETURN_IF_ERROR(context_.tracker->collect(recent, recent));
    add_pages(last, recent);
    collected_at_ = Clock::system().now();
    if (armed_ && !resumes_with_all_pages(last)) {
        GODWIT_RETURN_IF_ERROR(punch_late(std::move(last), recent, live_.next_round));
    } else {
        GODWIT_RETURN_IF_ERROR(send_last_pages(std::move(last), live_.next_round));
        if (armed_)
            GODWIT_RETURN_IF_ERROR(context_.streams->urgent().send(FrameKind::kPostcopyOff));
        context_.streams->enter(SourcePhase::kSaving);
    }
    pages_sent_at_ = Clock::system().now();
    return absl::OkStatus();
}

// Again and again what came damaged; the deadline ends it.
absl::Status Handover::send_last_pages(PageSet last, uint32_t index) {
    const char* why = "last pages, the guest is stopped";
    do {
        v1::Round& round = *context_.report.add_rounds();
        round.set_index(index++);
        round.set_frozen(true);
        round.set_decision(std::exchange(why, "what came damaged, the guest is stopped"));
        GODWIT_RETURN_IF_ERROR(send_round(context_, last, round, GuestState::kFrozen, deadline_));
        last = take_damaged(context_);
    } while (count_pages(last) > 0);
    return absl::OkStatus();
}

absl::Status Handover::save_device_state() {
    pump_->guest_is_frozen();
    GODWIT_RETURN_IF_ERROR(context_.vm.finish_device_save());
    GODWIT_ASSIGN_OR_RETURN(
        const Seen seen,
        context_.signals.wait(
            "saving and loading the device state", Mind::kAll, deadline_, [](const Seen& s) {
                return (s.has_status("completed") && s.loaded_at) || !save_failed(s).ok();
            }));
    GODWIT_RETURN_IF_ERROR(save_failed(seen));
    loaded_at_ = std::max(*seen.loaded_at, seen.migration_status.at("completed"));
    return absl::OkStatus();
}

CommitEnd Handover::commit(std::string& why) { return commit_in_order(*this, why); }

absl::Status Handover::send_commit() {
    context_.streams->enter(drain_ ? SourcePhase::kCommittedServed : SourcePhase::kCommitted);
    return context_.streams->urgent().send(was_running_ ? FrameKind::kCommit
                                                        : FrameKind::kCommitPaused);
}

absl::StatusOr<CommitAnswer> Handover::await_answer(bool sent) {
    GODWIT_ASSIGN_OR_RETURN(
        const Seen seen,
        context_.signals.wait(
            "the answer to COMMIT", Mind::kAll,
            Clock::system().now() + (sent ? kHandoverAnswerLimit : Duration::zero()),
            [](const Seen& s) { return s.resumed_at || s.refused; }));
    if (!seen.refused) fill_downtime(*seen.resumed_at);
    return CommitAnswer{.refused = seen.refused};
}

void Handover::fill_downtime(MonotonicTime resumed_at) {
    v1::Downtime& parts = *context_.report.mutable_downtime();
    parts.set_stop_to_quiet_ms(to_ms(quiet_at_ - stopped_at_));
    parts.set_collect_ms(to_ms(collected_at_ - quiet_at_));
    parts.set_last_pages_ms(to_ms(pages_sent_at_ - collected_at_));
    parts.set_device_state_ms(to_ms(loaded_at_ - pages_sent_at_));
    parts.set_commit_ms(to_ms(resumed_at - verified_at_));
    context_.report.set_downtime_ms(to_ms(resumed_at - stopped_at_) - context_.report.verify_ms());
    context_.report.set_stopped_unix_ms(unix_ms_of(stopped_at_));
}

}  // namespace godwit
