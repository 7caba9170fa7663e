#include "tools/godwit/fleet_board.h"

#include <algorithm>
#include <limits>

#include "engine/report/json.h"
#include "tools/godwit/render.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr Bytes kLeastShare = 1024;  // less is no limit that an agent takes
constexpr Duration kUntilRoom = std::chrono::seconds(1);
// A minute: what fills the agent is not ours, and may go on for hours.
constexpr uint32_t kMostRefusals = 60;

// What an agent says when nothing else fits: that the VM is being migrated, for one.
constexpr const char* kAnyRefusal = "REFUSED";
constexpr const char* kNoRoom = "NO_ROOM";

}  // namespace

FleetEnd end_of(const v1::MigrationReport& report) {
    return {.code = exit_code_of(report),
            .outcome = enum_word(report.outcome()),
            .guest_at = report.guest_at(),
            .retry_safe = report.retry_safe(),
            .reason = report.reason(),
            .report = report};
}

FleetEnd end_of_refused(const absl::Status& status, const std::string& vm) {
    const std::optional<v1::ErrorDetail> detail = detail_of(status);
    if (!detail)
        return {.code = ExitCode::kNeedsOperator,
                .outcome = "unknown",
                .reason = std::string(status.message()) +
                          "; whether it began is not known: godwit report " + vm};
    FleetEnd end{.code = exit_code_of(status),
                 .outcome = enum_word(v1::OUTCOME_REFUSED),
                 .guest_at = detail->guest_at(),
                 .retry_safe = detail->retry_safe(),
                 .reason = std::string(status.message())};
    if (detail->reason() == kAnyRefusal) end.guest_at.reset();
    return end;
}

bool is_no_room(const absl::Status& status) {
    const std::optional<v1::ErrorDetail> detail = detail_of(status);
    return detail && detail->reason() == kNoRoom;
}

FleetEnd end_of_abandoned(FleetEnd end, const std::string& vm) {
    end.code = ExitCode::kFailed;
    end.reason = vm + " can't come, and they belong together";
    if (end.report) end.report->set_reason(end.reason);
    return end;
}

FleetEnd not_begun(const std::string& reason, ExitCode code) {
    return {.code = code,
            .outcome = "not-begun",
            .guest_at = v1::GUEST_AT_SOURCE,
            .retry_safe = true,
            .reason = reason};
}

FleetBoard::FleetBoard(const std::vector<std::string>& vms, uint32_t at_a_time, Bytes bandwidth)
    : at_a_time_(at_a_time), bandwidth_(bandwidth) {
    for (const std::string& vm : vms) {
        order_.push_back(guests_.size());
        guests_.push_back({.vm = vm});
    }
}

std::vector<size_t> FleetBoard::begin(MonotonicTime now) {
    std::vector<size_t> begun;
    if (begins_at_ && now < *begins_at_) return begun;
    begins_at_.reset();
    for (const size_t i : order_) {
        if (count(FleetStep::kUnderWay) >= at_a_time_) break;
        if (guests_[i].step != FleetStep::kWaiting) continue;
        guests_[i].step = FleetStep::kUnderWay;
        begun.push_back(i);
    }
    for (const size_t i : begun) guests_[i].bandwidth = share();
    return begun;
}

bool FleetBoard::had_no_room(size_t guest, MonotonicTime now) {
    FleetGuest& refused = guests_[guest];
    if (count(FleetStep::kUnderWay) == 1 && ++refused.refusals >= kMostRefusals) return false;
    refused.step = FleetStep::kWaiting;
    begins_at_ = now + kUntilRoom;
    return true;
}

std::optional<MonotonicTime> FleetBoard::begins_at() const {
    return count(FleetStep::kWaiting) > 0 ? begins_at_ : std::nullopt;
}

void FleetBoard::has_id(size_t guest, const std::string& migration_id) {
    guests_[guest].migration_id = migration_id;
}

void FleetBoard::event(size_t guest, const v1::MigrationEvent& event) {
    guests_[guest].phase = event.phase();
    // One that somebody let go on before it was ready says nothing of that.
    for (const char* phase : {"ready", "freeze", "handover", "drain"})
        guests_[guest].is_ready |= event.phase() == phase;
    if (event.has_progress()) guests_[guest].progress = event.progress();
}

void FleetBoard::end(size_t guest, FleetEnd end) {
    guests_[guest].step = FleetStep::kEnded;
    guests_[guest].end = std::move(end);
    begins_at_.reset();
}

void FleetBoard::reorder(const std::vector<std::string>& vms, uint32_t at_a_time) {
    at_a_time_ = at_a_time;
    const auto place = [&](size_t guest) {
        return std::find(vms.begin(), vms.end(), guests_[guest].vm) - vms.begin();
    };
    std::stable_sort(order_.begin(), order_.end(),
                     [&](size_t a, size_t b) { return place(a) < place(b); });
}

void FleetBoard::stop(const std::string& reason, ExitCode code) {
    for (size_t i = 0; i < guests_.size(); ++i)
        if (guests_[i].step == FleetStep::kWaiting) end(i, not_begun(reason, code));
}

Bytes FleetBoard::share() const {
    if (bandwidth_ == 0) return 0;
    return std::max(bandwidth_ / std::max<size_t>(count(FleetStep::kUnderWay), 1), kLeastShare);
}

std::vector<size_t> FleetBoard::take_unequal() {
    std::vector<size_t> unequal;
    const Bytes now = share();
    for (size_t i = 0; i < guests_.size(); ++i) {
        FleetGuest& guest = guests_[i];
        if (guest.step != FleetStep::kUnderWay || guest.migration_id.empty() ||
            guest.bandwidth == now)
            continue;
        guest.bandwidth = now;
        unequal.push_back(i);
    }
    return unequal;
}

GangStep FleetBoard::gang_step() const {
    const auto will_not_come = [](const FleetGuest& guest) {
        return guest.step == FleetStep::kEnded && guest.end.code != ExitCode::kDone;
    };
    const auto is_ready = [](const FleetGuest& guest) {
        return guest.is_ready || guest.step == FleetStep::kEnded;
    };
    if (std::any_of(guests_.begin(), guests_.end(), will_not_come)) return GangStep::kAbandon;
    return std::all_of(guests_.begin(), guests_.end(), is_ready) ? GangStep::kProceed
                                                                 : GangStep::kWait;
}

bool FleetBoard::is_split() const {
    const auto moved = [](const FleetGuest& guest) {
        return guest.end.guest_at == v1::GUEST_AT_DESTINATION;
    };
    return std::any_of(guests_.begin(), guests_.end(), moved) &&
           !std::all_of(guests_.begin(), guests_.end(), moved);
}

std::optional<double> FleetBoard::outage_ms() const {
    std::vector<const v1::MigrationReport*> moved;
    for (const FleetGuest& guest : guests_)
        if (guest.end.report && guest.end.report->outcome() == v1::OUTCOME_DONE &&
            guest.end.report->stopped_unix_ms() > 0)
            moved.push_back(&*guest.end.report);
    if (moved.size() < 2) return std::nullopt;
    double first = std::numeric_limits<double>::max();
    double last = 0;
    for (const v1::MigrationReport* report : moved) {
        first = std::min(first, report->stopped_unix_ms());
        last =
            std::max(last, report->stopped_unix_ms() + report->downtime_ms() + report->verify_ms());
    }
    return last - first;
}

size_t FleetBoard::count(FleetStep step) const {
    return static_cast<size_t>(
        std::count_if(guests_.begin(), guests_.end(),
                      [&](const FleetGuest& guest) { return guest.step == step; }));
}

size_t FleetBoard::done() const {
    return static_cast<size_t>(
        std::count_if(guests_.begin(), guests_.end(), [](const FleetGuest& guest) {
            return guest.step == FleetStep::kEnded && guest.end.code == ExitCode::kDone;
        }));
}

ExitCode FleetBoard::exit_code() const {
    const auto with = [&](ExitCode code) {
        return std::count_if(guests_.begin(), guests_.end(),
                             [&](const FleetGuest& guest) { return guest.end.code == code; });
    };
    for (const ExitCode code :
         {ExitCode::kNeedsOperator, ExitCode::kGuestDied, ExitCode::kCancelled})
        if (with(code) > 0) return code;
    const auto all = static_cast<std::ptrdiff_t>(guests_.size());
    if (with(ExitCode::kDone) == all) return ExitCode::kDone;
    if (with(ExitCode::kUsage) == all) return ExitCode::kUsage;
    return with(ExitCode::kRefused) + with(ExitCode::kUsage) == all ? ExitCode::kRefused
                                                                    : ExitCode::kFailed;
}

}  // namespace godwit
