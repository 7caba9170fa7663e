#include "engine/source/native_migration.h"

#include <fmt/format.h>

namespace godwit {
namespace {

void report_progress(SourceContext& context, const NativeProgress& now) {
    v1::Progress progress;
    progress.set_round(now.pass);
    progress.set_total_pages(now.total_bytes / kPageBytes);
    progress.set_done_pages((now.total_bytes - std::min(now.remaining_bytes, now.total_bytes)) /
                            kPageBytes);
    progress.set_elapsed_ms(to_ms(Clock::system().now() - context.started_at));
    if (now.downtime_ms > 0) progress.set_expected_downtime_ms(now.downtime_ms);
    context.log.progress(progress);
}

}  // namespace

void migrate_natively(SourceContext& context, const std::string& why) {
    v1::MigrationReport& report = context.report;
    report.set_engine("native");
    report.set_strategy("precopy");
    report.set_guest_at(v1::GUEST_AT_SOURCE);
    context.record.set_native(true);
    *context.record.mutable_report() = report;
    absl::Status noted = context.journal.write(context.record, Journal::Durability::kPageCache);
    context.log.message("native", fmt::format("its hypervisor moves it to {}, for Godwit can't: {}",
                                              context.settings.native_destination, why));
    const auto go_on = [&context](const NativeProgress& now) {
        report_progress(context, now);
        return !context.signals.seen().cancelled;
    };
    absl::StatusOr<NativeProgress> moved =
        noted.ok() ? context.vm.move_natively({.destination = context.settings.native_destination,
                                               .data = context.settings.native_data,
                                               .bandwidth_bytes_per_s = context.limiter.rate(),
                                               .with_definition = context.settings.with_definition,
                                               .undefine_source = context.settings.undefine_source,
                                               .unsafe = context.settings.unsafe},
                                              go_on)
                   : noted;
    if (moved.ok()) {
        report.set_outcome(v1::OUTCOME_DONE);
        report.set_guest_at(v1::GUEST_AT_DESTINATION);
        report.set_retry_safe(false);
        report.set_downtime_ms(moved->downtime_ms);
        report.set_wire_bytes(moved->sent_bytes);
        report.set_ram_bytes(moved->total_bytes);
        if (context.signals.seen().cancelled) report.add_warnings("the cancel came too late");
        return;
    }
    const bool cancelled = absl::IsCancelled(moved.status());
    report.set_outcome(cancelled ? v1::OUTCOME_CANCELLED : v1::OUTCOME_FAILED);
    report.set_reason(cancelled ? "cancelled" : std::string(moved.status().message()));
    const absl::StatusOr<RunState> state = context.vm.run_state();
    if (state.ok()) return;
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_retry_safe(false);
    report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
    report.set_reason(fmt::format("{}; and whether the guest is here its hypervisor can't say: {}",
                                  report.reason(), std::string(state.status().message())));
}

}  // namespace godwit
