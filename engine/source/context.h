// SourceContext: what the phases of one outgoing migration share.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "dirty-tracking/resident/vcpu_throttle.h"
#include "dirty-tracking/tracker/tracker.h"
#include "engine/guest/hypervisor.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/guard.h"
#include "engine/handover/journal.h"
#include "engine/handover/step_hook.h"
#include "engine/report/event_log.h"
#include "engine/source/round_sender.h"
#include "engine/source/settings.h"
#include "engine/source/signals.h"
#include "engine/source/streams.h"
#include "engine/source/transfer_client.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

struct SourceContext {
    const MigrationSettings& settings;
    Vm& vm;
    EventLog& log;
    SourceSignals& signals;
    v1::MigrationReport& report;
    Journal& journal;
    v1::JournalRecord& record;
    DecisionWord& word;
    const StepHook& at_step;
    RateLimiter& limiter;  // of all streams
    TransferClient& peer;
    std::function<void()> forget_operators_word;  // Drain::Plan::on_word_forgotten
    Duration fixed_cost;  // of a pause, as measured by the agent's last migrations
    std::string guard_program;
    std::string state_dir;
    TcpOptions tcp;             // of every stream
    ThreadPlacement placement;  // of threads that move pages
    MonotonicTime started_at;
    // Somebody wants the guest to resume at the destination now, and the rest to follow.
    const std::atomic<bool>& switch_requested;
    std::atomic<bool>& is_held;  // ready to switch over, it waits to be told to proceed
    bool tries_streams = false;  // the first round finds out how many streams help
    bool may_switch = false;     // the destination can do that; set by prepare
    v1::Progress progress;       // what the last round told, for progress events
    uint32_t next_marker = 0;    // what ends a round on the streams: unlike rounds, never the same

    // Launched by prepare, or at the freeze where that failed.
    std::optional<GuardProcess> guard;
    // Made by prepare:
    std::unique_ptr<VcpuThrottle> throttle;  // where may_throttle(); nothing is held once it goes
    std::unique_ptr<DirtyTracker> tracker;
    std::unique_ptr<SourceStreams> streams;
    std::unique_ptr<RoundSender> sender;
};

}  // namespace godwit
