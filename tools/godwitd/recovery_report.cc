#include "tools/godwitd/recovery_report.h"

#include <chrono>

namespace godwit {

void at_source(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_guest_at(v1::GUEST_AT_SOURCE);
    report.set_retry_safe(true);
    report.set_reason(reason);
}

void died(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_GUEST_DIED);
    report.set_guest_at(v1::GUEST_AT_NONE);
    report.set_retry_safe(false);
    report.set_reason(reason);
}

void needs_operator(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
    report.set_retry_safe(false);
    report.set_reason(reason);
}

void taken_over(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_DONE);
    report.set_guest_at(v1::GUEST_AT_DESTINATION);
    report.set_retry_safe(false);
    report.set_reason(reason);
}

uint64_t unix_ms() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count());
}

v1::Postcopy whole_drain(const v1::Postcopy& before, v1::Postcopy last, uint64_t resumed_unix_ms) {
    last.set_early_punches(before.early_punches());
    last.set_late_punches(before.late_punches());
    if (before.missing_pages() > 0) last.set_missing_pages(before.missing_pages());
    last.set_interruptions(before.interruptions() + last.interruptions());
    const uint64_t now = unix_ms();
    if (resumed_unix_ms > 0 && now > resumed_unix_ms)
        last.set_drain_ms(static_cast<double>(now - resumed_unix_ms));
    return last;
}

}  // namespace godwit
