// FleetRun: the migrations of a group, from the first that begins to the last that ends.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/thread_annotations.h"
#include "engine/base/wait.h"
#include "tools/godwit/agent_client.h"
#include "tools/godwit/fleet_board.h"
#include "tools/godwit/fleet_plan.h"
#include "tools/godwit/fleet_render.h"
#include "tools/godwit/interrupts.h"

namespace godwit {

// One thread calls it; each migration has a thread of its own that follows it.
class FleetRun {
  public:
    struct Options {
        bool quiet = false;  // no progress on stderr
        bool gang = false;   // they switch over together, or stay; the request has a hold
        // A closer look at all but the first VM while that one is under way; nothing else begins
        // before its end. The order that it comes to is that of those that wait. It returns soon
        // once it is stopped.
        std::function<absl::StatusOr<FleetOrder>(const std::stop_token&)> look_closer;
    };
    // All references must outlive it.
    FleetRun(AgentClient& agent, const Interrupts& interrupts, Wakeup changed,
             const FleetOrder& order, const v1::MigrateRequest& request, Options options);

    // Returns when every VM has ended, or nobody follows it any more.
    void run();

    // After run().
    [[nodiscard]] const FleetBoard& board() const { return board_; }
    [[nodiscard]] Duration total() const { return total_; }
    // As it was at last.
    [[nodiscard]] const FleetOrder& order() const { return order_; }

  private:
    // A migration that could not be cancelled, how long it is waited for all the same, and where
    // the agent says that its guest is.
    struct NotCancelled {
        std::optional<MonotonicTime> leave_at;
        std::optional<v1::GuestAt> guest_at;
    };

    // What an agent is to be told of a bandwidth.
    struct Share {
        size_t guest = 0;
        std::string id;
        Bytes bandwidth = 0;
    };

    [[nodiscard]] std::optional<MonotonicTime> wakes_at();
    void begin_what_may();
    void look_closer();
    void share_link();
    void tell_share(const Share& share);
    void follow(size_t guest);
    void end(size_t guest, FleetEnd end, bool agent_is_away = false);
    void interrupt();
    void lead_gang();
    void proceed(size_t guest, const std::string& id);
    std::vector<std::pair<size_t, std::string>> under_way();  // with mutex_ held
    void cancel(size_t guest, const std::string& id);
    void cancel_all(const std::vector<std::pair<size_t, std::string>>& members);
    void leave_all();
    void leave_what_is_due();
    void draw();
    void say(const std::string& line);  // with mutex_ held

    AgentClient& agent_;
    const Interrupts& interrupts_;
    const Wakeup changed_;
    const v1::MigrateRequest request_;
    const bool quiet_;
    const bool is_gang_;
    const std::function<absl::StatusOr<FleetOrder>(const std::stop_token&)> look_closer_;
    const bool terminal_;
    const MonotonicTime begun_;
    Duration total_{};

    std::mutex mutex_;
    FleetBoard board_ GODWIT_GUARDED_BY(mutex_);
    FleetOrder order_ GODWIT_GUARDED_BY(mutex_);
    bool looks_ GODWIT_GUARDED_BY(mutex_);  // look_closer_ has not come to its end
    bool interrupted_ GODWIT_GUARDED_BY(mutex_) = false;
    bool gathers_ GODWIT_GUARDED_BY(mutex_);              // a gang of which not all are ready
    bool switches_ GODWIT_GUARDED_BY(mutex_) = false;     // a gang that was told to proceed
    std::string gang_left_by_ GODWIT_GUARDED_BY(mutex_);  // the VM for which a gang stays
    size_t drawn_lines_ GODWIT_GUARDED_BY(mutex_) = 0;    // of the table, on the terminal
    // By VM: asks whoever waits for its agent to leave; and what came of a cancel.
    std::vector<std::stop_source> leaving_;
    std::vector<NotCancelled> not_cancelled_ GODWIT_GUARDED_BY(mutex_);
    // Who follows it, by VM; and who tells its agent something, so that the thread that hears
    // signals does not wait for an agent that hangs. At most three for each VM and one for each
    // Ctrl-C.
    std::vector<std::jthread> followers_;
    std::vector<std::jthread> tellers_;
    std::jthread looker_;
};

}  // namespace godwit
