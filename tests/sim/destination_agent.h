// A destination's agent: the real order of COMMIT, the real recovery and the real list of missing
// pages, over a simulated host.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "engine/destination/commit_order.h"
#include "engine/destination/drain_plan.h"
#include "engine/handover/phases.h"
#include "engine/postcopy/missing_pages.h"
#include "godwit/v1/transfer.pb.h"
#include "tests/sim/hosts.h"

namespace godwit::sim {

class DestinationAgent final : public CommitSteps,
                               public std::enable_shared_from_this<DestinationAgent> {
  public:
    explicit DestinationAgent(Hosts& hosts) : hosts_(hosts) {}
    // What its predecessor had begun.
    void recover();

    void die();
    void stand_still(Duration time) { hosts_.world.hold(process_, time); }
    // It answers who asks.
    [[nodiscard]] bool lives() const {
        return process_->alive && !process_->stands_still && !recovering_;
    }

    [[nodiscard]] bool has_all_pages() const { return !missing_ || missing_->count() == 0; }

    // --- calls of the source, from its threads ---
    absl::Status prepare();
    v1::QueryResponse query() const;
    absl::Status abort();
    // Lets the source come with a new connection, if pages are missing here.
    v1::QueryResponse reconnect();
    void accept(const std::shared_ptr<Wire>& wire);

    // --- CommitSteps ---
    absl::Status note(v1::JournalPhase phase, const std::string& detail) override;
    absl::Status await_mapping_check() override { return absl::OkStatus(); }
    bool qemu_has_ended() override { return !qemu().alive(); }
    absl::Status resume() override { return qemu().cont(seconds(10)); }
    bool has_run() override { return ran_here_; }
    bool wait_to_ask_again() override;
    absl::Status kill() override;
    void now_refused(const std::string& why) override;
    absl::Status tell_refused(const std::string& why) override;
    void at_step(std::string_view step) override { hosts_.world.step(step); }

  private:
    Qemu& qemu() { return *hosts_.destination_qemu; }
    void listen();
    void run();
    void serve_first_session();
    void take(const SimFrame& frame);
    void commit(bool run_guest);
    void note_resumed();
    void tell_resumed();
    void break_session(const absl::Status& why);
    void send(SimFrame frame);
    void refuse(const std::string& why);
    void end(v1::IncomingState state, const std::string& detail);
    void recover_one(v1::JournalRecord record);
    bool was_given_back();
    void settle(v1::JournalRecord record, v1::JournalPhase phase, const std::string& detail);

    // With pages that follow the guest (destination_drain.cc):
    [[nodiscard]] bool is_draining() const { return is_drain(phase_); }
    void take_postcopy(const SimFrame& frame);
    absl::Status arm();
    void serve_faults();
    void fault(int page);
    void place(const SimFrame& frame);
    void send_missing();
    void marker_came();
    bool end_drain();
    bool await_next_session();
    void begin_next_session();
    void serve_session();
    void receive_pages();
    void recover_drain();
    void resume_in_drain();

    Hosts& hosts_;
    const std::shared_ptr<Process> process_ =
        std::make_shared<Process>(Process{.name = "destination"});
    v1::JournalRecord record_;
    std::shared_ptr<Wire> wire_;
    std::deque<SimFrame> urgent_;
    std::deque<SimFrame> data_;  // once the guest may be here: until then it is taken at once
    DestinationPhase phase_ = DestinationPhase::kLive;
    v1::IncomingState state_ = v1::INCOMING_STATE_UNKNOWN;
    std::string detail_;
    absl::Status broken_;
    std::optional<std::string> load_status_;
    bool ran_here_ = false;
    bool gone_ = false;
    bool ended_ = false;
    bool recovering_ = false;
    bool cont_is_prepared_ = false;

    std::optional<MissingPages> missing_;
    std::set<int> asked_;  // by this connection
    bool asks_ = false;    // there is one, and every missing page is known
    bool is_resumed_told_ = false;
    int markers_ = 0;  // of this push
    int receivers_ = 0;
    // The source is about to come again, or has come and is not heard yet.
    bool is_session_asked_ = false;
    bool reconnect_said_resumed_ = false;
    std::shared_ptr<Wire> next_wire_;
    std::deque<SimFrame> next_frames_;
    absl::Status next_broken_;
};

}  // namespace godwit::sim
