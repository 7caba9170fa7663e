// Freeze and handover at the source: from the last live round to the answer to COMMIT.
//
//   [arm the destination, early punches] ─► arm guard ─► migrate ─► STOP ─► pre-switchover
//        ─► last collect ∪ unsettled ─► last pages, or punches for what is missing then
//        ─► migrate-continue ─► completed + LOADED ─► [verify] ─► COMMIT ─► RESUMED | REFUSED
#pragma once

#include <memory>

#include "engine/source/context.h"
#include "engine/source/device_state.h"
#include "engine/source/drain.h"
#include "engine/source/handover_order.h"
#include "engine/source/live_rounds.h"

namespace godwit {

// Starts the program of the guard that the freeze will need. Errors: GuardProcess::launch()'s.
absl::Status launch_guard(SourceContext& context);

class Handover final : private HandoverSteps {
  public:
    explicit Handover(SourceContext& context) : context_(context) {}

    // What may be done while the guest still runs: where it may resume before its last pages are
    // there, the destination learns to catch faults, and drops what is known to be stale. Errors:
    // the destination's words; the guest runs on.
    absl::Status make_ready(LiveResult& live);
    // Everything before COMMIT; a guest that was paused by now stays paused. After an error the
    // guest is frozen or not, and the word is still open or says ABORT: the caller rolls back.
    absl::Status freeze(LiveResult live);
    // Whether the guest ran when it was frozen.
    [[nodiscard]] bool was_running() const { return was_running_; }
    // Whether freeze() got as far as asking QEMU to stop.
    [[nodiscard]] bool began() const { return began_; }

    // After freeze(): the drain that answers faults; none when the guest resumes with all pages.
    [[nodiscard]] const std::shared_ptr<Drain>& drain() const { return drain_; }
    // What was missing at the destination when the guest was frozen.
    [[nodiscard]] const PageSet& missing() const { return missing_; }

    // Decides, sends COMMIT, waits for the answer; fills the report's downtime. `why` is set unless
    // it ends in kResumed.
    CommitEnd commit(std::string& why);

    // The parts of the pause, which ended when the source heard of RESUMED.
    void fill_downtime(MonotonicTime resumed_at);

    // The guard's work is done.
    void dismiss_guard() { context_.guard.reset(); }
    // After an error of make_ready() or freeze() where it has not begun.
    void forgo();

  private:
    // HandoverSteps:
    absl::Status note_run_state() override;
    absl::Status note_freezing() override;
    absl::Status prepare_save() override;
    absl::Status start_guard() override;
    absl::Status catch_up() override { return catch_up(live_); }
    absl::Status arm_guard() override;
    absl::Status stop_guest() override;
    absl::Status send_last_set() override;
    absl::Status save_device_state() override;
    absl::Status verify() override;
    absl::Status problem() override { return context_.signals.problem(); }
    bool decide_commit() override { return context_.word.decide(Verdict::kCommit); }
    absl::Status send_commit() override;
    absl::StatusOr<CommitAnswer> await_answer(bool sent) override;
    void at_step(std::string_view step) override { context_.at_step(step); }

    absl::Status catch_up(LiveResult& live);
    absl::Status collect_rest(LiveResult& live);
    absl::Status send_rest(LiveResult& live);
    absl::Status send_last_pages(PageSet last, uint32_t round);
    void note_limit(Bytes bytes_per_s);
    absl::Status arm_destination();
    absl::Status punch_early(LiveResult& live);
    absl::Status drop(PageSet stale, uint32_t round);
    absl::StatusOr<PageSet> collect_fresh(LiveResult& live);
    absl::Status punch_late(PageSet last, const PageSet& recent, uint32_t round);
    absl::Status send_punches(const PageSet& stale, uint32_t round, GuestState guest,
                              MonotonicTime deadline);
    PageSet take_sooner_sent(PageSet& stale) const;
    // Whether it takes no longer than `limit` at the rate of the live rounds.
    [[nodiscard]] bool is_quickly_sent(const PageSet& set, Duration limit) const;
    [[nodiscard]] bool resumes_with_all_pages(const PageSet& last) const;
    // How many system calls it takes the destination to drop these.
    [[nodiscard]] uint64_t punch_count(const PageSet& stale) const;
    void widen(PageSet& stale, GuestState guest) const;
    void widen_to_fit(PageSet& stale) const;

    SourceContext& context_;
    LiveResult live_;  // of freeze()
    bool was_running_ = true;
    bool prepared_ = false;  // QEMU was set up for the save
    bool began_ = false;
    std::unique_ptr<DeviceStatePump> pump_;
    bool armed_ = false;      // the destination can catch faults
    bool with_rest_ = false;  // decided before the freeze: the guest resumes without its last pages
    double page_rate_ = 0;    // as the live rounds had it; 0: none
    double sent_rate_ = 0;    // the same of pages that were sent alone
    PageSet missing_;         // at the destination
    std::shared_ptr<Drain> ready_drain_;  // made before the freeze
    std::shared_ptr<Drain> drain_;        // the same, once it is needed
    MonotonicTime deadline_;              // of the whole freeze
    MonotonicTime stopped_at_;
    MonotonicTime quiet_at_;
    MonotonicTime collected_at_;
    MonotonicTime pages_sent_at_;
    MonotonicTime loaded_at_;
    MonotonicTime verified_at_;
};

}  // namespace godwit
