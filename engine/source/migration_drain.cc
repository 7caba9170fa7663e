// SourceMigration: its last part where the guest resumes before its last pages are there.
#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/source/frozen_verify.h"
#include "engine/source/kept_ram.h"
#include "engine/source/source_migration.h"

namespace godwit {

absl::Status SourceMigration::switch_to_postcopy() {
    const std::lock_guard lock(drain_mutex_);
    if (settings_.limits.strategy == Strategy::kStopAndCopy)
        return absl::FailedPreconditionError(
            "a stop-and-copy migration has no live rounds that could be ended");
    if (live_over_) return absl::FailedPreconditionError("the live rounds are over already");
    if (!no_switch_)
        return absl::FailedPreconditionError(
            "the destination is not prepared yet: try again in a moment");
    if (!no_switch_->empty())
        return absl::FailedPreconditionError("the destination can't do post-copy: " + *no_switch_);
    switch_requested_ = true;
    return absl::OkStatus();
}

absl::Status SourceMigration::proceed() {
    const std::lock_guard lock(drain_mutex_);
    if (settings_.hold_limit == Duration::zero())
        return absl::FailedPreconditionError(
            "nothing holds it: it was not begun with --hold, and switches over by itself");
    if (!signals_.let_go_on())
        return absl::FailedPreconditionError(
            "it ends, and the guest stays at the source: begin it anew");
    if (live_over_) return absl::FailedPreconditionError("it has switched over already");
    return absl::OkStatus();
}

absl::Status SourceMigration::resume() {
    const std::lock_guard lock(drain_mutex_);
    if (drain_ && drain_->retry_now()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "nothing is interrupted: there is no drain that waits for its destination");
}

void SourceMigration::note_resumed(SourceContext& context, Handover& handover, MonotonicTime at) {
    in_doubt_ = false;
    resumed_there_ = true;
    handover.fill_downtime(at);
    context.at_step(step::kResumedSeen);
    kill_guest(context);
    handover.dismiss_guard();
    // For a successor's report: it knows only what is missing when it comes.
    context.report.mutable_postcopy()->set_missing_pages(count_pages(handover.missing()));
    context.record.set_phase(v1::JOURNAL_PHASE_DRAINING);
    context.record.set_bandwidth_bytes_per_s(limiter_.rate());
    context.record.set_resumed_unix_ms(std::chrono::duration_cast<std::chrono::milliseconds>(
                                           std::chrono::system_clock::now().time_since_epoch())
                                           .count());
    *context.record.mutable_report() = context.report;
    // The word and FREEZING say the same: an agent that finds these asks the destination first.
    if (const absl::Status status =
            context.journal.write(context.record, Journal::Durability::kPageCache);
        !status.ok())
        spdlog::error("migration {}: {}", settings_.id, std::string(status.message()));
    context.at_step(step::kDraining);
}

void SourceMigration::drain(SourceContext& context, Handover& handover,
                            const std::stop_token& stop) {
    {
        const std::lock_guard lock(drain_mutex_);
        drain_ = handover.drain();
    }
    in_doubt_ = !context.signals.seen().resumed_at;
    const Drain::Outcome outcome = handover.drain()->run(
        {context.streams.get(), &context.signals},
        [&](MonotonicTime at) { note_resumed(context, handover, at); }, stop);
    {
        const std::lock_guard lock(drain_mutex_);
        drain_.reset();
    }
    context.report.set_wire_bytes(context.streams->sent_bytes() + handover.drain()->sent_bytes());
    switch (outcome.end) {
        case Drain::End::kRefused:
            in_doubt_ = false;
            if (outcome.by_operator) {
                note_resolution(context, Fate::kRefused);
                return undo(context, absl::AbortedError(outcome.detail), &handover, stop);
            }
            return undo(context, absl::AbortedError("the destination refused: " + outcome.detail),
                        &handover, stop);
        case Drain::End::kStopped:
            unfinished_ = true;
            context.report.set_outcome(in_doubt_ ? v1::OUTCOME_IN_DOUBT : v1::OUTCOME_RUNNING);
            context.report.set_guest_at(in_doubt_ ? v1::GUEST_AT_NEEDS_OPERATOR
                                                  : v1::GUEST_AT_DESTINATION);
            context.report.set_retry_safe(false);
            context.report.set_reason(
                "the agent ends; its successor goes on sending the guest's last pages");
            return;
        case Drain::End::kGuestGone:
            in_doubt_ = false;
            if (outcome.by_operator) note_resolution(context, Fate::kNowhere);
            return finish_lost(context, outcome.by_operator
                                            ? outcome.detail
                                            : "the destination says: " + outcome.detail);
        case Drain::End::kDrained:
            return finish_drain(context, handover, outcome, stop);
    }
}

void SourceMigration::finish_drain(SourceContext& context, Handover& handover,
                                   Drain::Outcome outcome, const std::stop_token& stop) {
    v1::MigrationReport& report = context.report;
    outcome.postcopy.set_early_punches(report.postcopy().early_punches());
    outcome.postcopy.set_late_punches(report.postcopy().late_punches());
    *report.mutable_postcopy() = outcome.postcopy;
    report.set_damaged_frames(report.damaged_frames() + outcome.postcopy.damaged_frames());
    context.at_step(step::kDrained);
    report.set_outcome(v1::OUTCOME_DONE);
    report.set_guest_at(v1::GUEST_AT_DESTINATION);
    report.set_retry_safe(false);
    if (settings_.verify && !verify_drained(context, handover, stop)) return;
    if (const absl::Status status = release_kept_ram(context.record); !status.ok())
        report.add_warnings(std::string(status.message()));
}

// False: the RAM files stay, for whoever finds out what happened.
bool SourceMigration::verify_drained(SourceContext& context, Handover& handover,
                                     const std::stop_token& stop) {
    v1::MigrationReport& report = context.report;
    const MonotonicTime begin = Clock::system().now();
    const bool discards =
        !context.tracker->sees_discards() && !context.vm.discarding_devices().empty();
    const absl::StatusOr<FrozenVerify> result = verify_frozen(
        context.vm.ram_blocks(), context.sender->hashes(), handover.missing(), discards, stop);
    report.set_verify_ms(to_ms(Clock::system().now() - begin));
    if (absl::IsCancelled(result.status())) {
        unfinished_ = true;
        report.set_outcome(v1::OUTCOME_RUNNING);
        report.set_reason("the agent ends; its successor concludes the migration unverified");
        return false;
    }
    std::string problem;
    if (result.ok()) {
        report.mutable_verify()->set_pages(result->page_count);
        report.mutable_verify()->set_mismatches(result->mismatches);
        if (result->mismatches == 0) return true;
        problem = fmt::format("Verify found {} differing pages, the first is {}",
                              result->mismatches, result->first);
    } else {
        problem =
            fmt::format("Verify could not be done: {}", std::string(result.status().message()));
    }
    std::string kept;
    for (const v1::KeptRam& file : context.record.kept_ram()) kept += " " + file.path();
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_reason(fmt::format("{}; the source's memory is kept in{}", problem, kept));
    return false;
}

}  // namespace godwit
