// A source's agent: the real order of the handover and of the drain, the real doubt and the real
// recovery, over a simulated host. Its live rounds are a stand-in of few pages.
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "engine/handover/phases.h"
#include "engine/postcopy/page_server.h"
#include "engine/postcopy/pending_pages.h"
#include "engine/postcopy/push_order.h"
#include "engine/source/drain_order.h"
#include "engine/source/handover_order.h"
#include "engine/source/in_doubt.h"
#include "engine/source/signals.h"
#include "tests/sim/guard.h"
#include "tests/sim/hosts.h"

namespace godwit::sim {

class SourceAgent final : public std::enable_shared_from_this<SourceAgent>,
                          private HandoverSteps,
                          private DrainSteps,
                          private PageSink,
                          private Doubt {
  public:
    explicit SourceAgent(Hosts& hosts) : hosts_(hosts), operators_word_(hosts.world) {}
    void migrate();
    void recover();

    void die();
    void stand_still(Duration time) { hosts_.world.hold(process_, time); }
    // It answers who asks.
    [[nodiscard]] bool lives() const { return process_->alive && !process_->stands_still; }
    [[nodiscard]] bool in_doubt() const { return in_doubt_; }
    // The guest has left, and the end of its drain is open.
    [[nodiscard]] bool has_left() const {
        return !guest_at_ && record_.phase() == v1::JOURNAL_PHASE_DRAINING;
    }
    // Its report says that the guest waits for pages that are lost: somebody is to end it there.
    [[nodiscard]] bool needs_operator() const { return !record_.report().reason().empty(); }
    // What its report says in the end.
    [[nodiscard]] const std::optional<v1::GuestAt>& guest_at() const { return guest_at_; }

    // --- its API ---
    void cancel();
    absl::Status resolve(Fate fate);
    bool given_back();

  private:
    // HandoverSteps:
    absl::Status note_run_state() override;
    absl::Status note_freezing() override;
    absl::Status prepare_save() override;
    absl::Status start_guard() override;
    absl::Status catch_up() override { return send_round(); }
    absl::Status arm_guard() override;
    absl::Status stop_guest() override;
    absl::Status send_last_set() override;
    absl::Status save_device_state() override;
    absl::Status verify() override { return absl::OkStatus(); }
    absl::Status problem() override { return signals_.problem(); }
    bool decide_commit() override;
    absl::Status send_commit() override;
    absl::StatusOr<CommitAnswer> await_answer(bool sent) override;
    void at_step(std::string_view step) override { hosts_.world.step(step); }
    // DrainSteps (source_drain.cc):
    Step await_resumed(bool in_doubt) override;
    void now_resumed() override;
    Step push() override;
    void hang_up(bool lost) override;
    bool wait_to_reconnect() override;
    absl::StatusOr<v1::QueryResponse> ask_to_reconnect() override;
    absl::Status connect(bool resumed) override;
    bool is_guest_here() override { return copy_here() == SourceCopy::kStands; }
    void still_away(const absl::Status& why) override;
    // PageSink:
    absl::Status send(const PageAnswer& answer) override;
    // Doubt:
    absl::StatusOr<v1::QueryResponse> ask() override;
    SourceCopy copy_here() override;
    // DrainSteps' as well:
    std::optional<Fate> operators_word() override;
    void forget_word() override;
    bool wait(Duration limit) override;
    void note_resolution(Fate fate) override;
    bool may_have_pages() override { return opens_at_.has_value(); }
    void note_resumed() override;
    void trouble(const std::string& said) override {
        hosts_.world.say("source: in doubt: " + said);
    }

    Qemu& qemu() { return *hosts_.source_qemu; }
    void listen();
    void run();
    absl::Status prepare_and_run_rounds();
    void open_wire();
    absl::Status send_round();
    absl::Status send_markers();
    void take(const SimFrame& frame);
    absl::StatusOr<SourceSignals::Seen> wait_for(
        const char* what, MonotonicTime deadline,
        const std::function<bool(const SourceSignals::Seen&)>& done);
    void end_as_said(const FateAnswer& answer,
                     const std::function<void(const std::string&)>& give_back);
    void settle_and_end(const std::function<void(const std::string&)>& give_back);
    void undo(const std::string& why, bool frozen);
    void finish_at_destination();
    absl::Status give_back();
    void end(v1::GuestAt where, Journal::Durability durability, const std::string& why);
    void recover_one();
    void conclude(v1::GuestAt where, const std::string& why);
    void give_back_and_conclude(bool vm, const std::string& why);

    // With pages that follow the guest (source_drain.cc):
    absl::Status arm_destination();
    absl::Status drop_last_set();
    void have_pages();
    void take_in_drain(const SimFrame& frame);
    bool push_stream(int stream, std::span<const ChunkPlace> share);
    void drain();
    void recover_drain(bool vm);
    bool await_last_pages(bool vm);
    bool give_up_drain(Fate fate);

    Hosts& hosts_;
    const std::shared_ptr<Process> process_ = std::make_shared<Process>(Process{.name = "source"});
    OperatorsWord operators_word_;
    SourceSignals signals_{kDataStreams};
    v1::JournalRecord record_;
    std::optional<DecisionWord> word_;
    std::shared_ptr<Wire> wire_;
    std::shared_ptr<Guard> guard_;
    SourcePhase phase_ = SourcePhase::kRounds;
    uint32_t round_ = 0;
    MonotonicTime deadline_;
    bool began_ = false;
    bool prepared_ = false;
    bool in_doubt_ = false;
    bool given_back_ = false;  // by an operator, with a guest here

    bool armed_ = false;  // the destination can catch faults
    bool is_draining_ = false;
    std::optional<MonotonicTime> opens_at_;  // until then the last pages can't be opened
    bool is_there_ = false;                  // the guest runs at the destination, as it said
    bool is_interrupted_ = false;
    std::optional<Fate> given_up_;  // by an operator
    bool is_retry_asked_ = false;
    bool is_answer_awaited_ = false;  // that of this connection, in doubt
    std::optional<PendingPages> pending_;
    std::unique_ptr<PageServer> server_;
    PageSet to_push_;
    Duration pause_{};  // before the next try to reconnect
    uint64_t missing_there_ = std::numeric_limits<uint64_t>::max();  // as its last list had it
    std::optional<v1::GuestAt> guest_at_;
};

}  // namespace godwit::sim
