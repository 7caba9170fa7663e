// FleetBoard: where each VM of a group is. Pure: it is told what happens, and says what may begin.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/units.h"
#include "godwit/v1/agent.pb.h"
#include "tools/godwit/exit_code.h"

namespace godwit {

enum class FleetStep { kWaiting, kUnderWay, kEnded };

// How it ended for one VM, or how far it was seen.
struct FleetEnd {
    ExitCode code = ExitCode::kDone;
    std::string outcome;  // that of the report; "not-begun", "unknown" or "detached"
    std::optional<v1::GuestAt> guest_at;  // none: not known here
    bool retry_safe = false;
    std::string reason;
    std::optional<v1::MigrationReport> report;
};

FleetEnd end_of(const v1::MigrationReport& report);
// The agent refused it, or its answer was lost.
FleetEnd end_of_refused(const absl::Status& status, const std::string& vm);
// The agent has no room for it now: as many migrations run there as may.
bool is_no_room(const absl::Status& status);
// Of a member of a gang that was cancelled because `vm` can't come.
FleetEnd end_of_abandoned(FleetEnd end, const std::string& vm);
// It was never asked for.
FleetEnd not_begun(const std::string& reason, ExitCode code);

struct FleetGuest {
    std::string vm;
    FleetStep step = FleetStep::kWaiting;
    std::string migration_id;  // once the agent has said it
    std::string phase;         // that of the last event
    v1::Progress progress;     // the last
    Bytes bandwidth = 0;       // bytes per second, as its agent was told last
    bool is_ready = false;     // held, it waits to be told to proceed; or was told already
    uint32_t refusals = 0;     // for want of room, with nothing of the group under way
    FleetEnd end;              // once it has ended
};

// What becomes of VMs that belong together.
enum class GangStep { kWait, kProceed, kAbandon };

// Not thread-safe.
class FleetBoard {
  public:
    // `bandwidth` in bytes per second is that of all VMs together; 0: no limit.
    FleetBoard(const std::vector<std::string>& vms, uint32_t at_a_time, Bytes bandwidth);

    // Those for which there is room: they are under way from now on, with the share that they find.
    std::vector<size_t> begin(MonotonicTime now);
    // Its agent had no room for it: it waits again, and nothing begins until one under way ends or
    // a second has passed. False: that was so too often with nothing under way; nothing has
    // changed.
    bool had_no_room(size_t guest, MonotonicTime now);
    // When to call begin() again though nothing ends.
    [[nodiscard]] std::optional<MonotonicTime> begins_at() const;
    void has_id(size_t guest, const std::string& migration_id);
    void event(size_t guest, const v1::MigrationEvent& event);
    void end(size_t guest, FleetEnd end);
    // From now on those that wait begin in the order of `vms` (names; those that it leaves out
    // come last), and `at_a_time` are under way together.
    void reorder(const std::vector<std::string>& vms, uint32_t at_a_time);
    // Nothing begins from now on.
    void stop(const std::string& reason, ExitCode code);

    // What each VM under way may use: equal shares, at least 1 KiB/s; 0: no limit.
    [[nodiscard]] Bytes share() const;
    // The VMs under way whose agent knows them and was told another share; they count as told now.
    std::vector<size_t> take_unequal();

    // kProceed once all are ready, or over there already; kAbandon as soon as one will not come.
    [[nodiscard]] GangStep gang_step() const;
    // Whether some guests are known to be at the destination, and others not.
    [[nodiscard]] bool is_split() const;

    [[nodiscard]] const FleetGuest& guest(size_t index) const { return guests_[index]; }
    [[nodiscard]] const std::vector<FleetGuest>& guests() const { return guests_; }
    [[nodiscard]] size_t count(FleetStep step) const;
    [[nodiscard]] size_t done() const;  // at the destination, all well
    // From the first pause to the last resume, ms, of those that are done; none of less than two.
    [[nodiscard]] std::optional<double> outage_ms() const;
    [[nodiscard]] bool is_over() const { return count(FleetStep::kEnded) == guests_.size(); }
    // Of the group: 0 all are done; else the first of these that a VM has: 4 needs an operator,
    // 6 died, 5 cancelled; else 2 if no request was one, 3 if all were refused, and 1.
    [[nodiscard]] ExitCode exit_code() const;

  private:
    std::vector<FleetGuest> guests_;
    std::vector<size_t> order_;  // indices of guests_: in which they begin
    uint32_t at_a_time_;
    const Bytes bandwidth_;
    std::optional<MonotonicTime> begins_at_;
};

}  // namespace godwit
