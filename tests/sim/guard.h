// The guard's process: the real GuardWatch, waited for in simulated time.
#pragma once

#include <deque>
#include <memory>

#include "engine/handover/guard_watch.h"
#include "tests/sim/hosts.h"

namespace godwit::sim {

class Guard final : public GuestRescue, public std::enable_shared_from_this<Guard> {
  public:
    // `agent`: whoever started it.
    Guard(Hosts& hosts, std::shared_ptr<Process> agent, bool run, DecisionWord word)
        : hosts_(hosts), agent_(std::move(agent)), run_(run), word_(std::move(word)) {}
    void start();

    void send(const GuardMessage& message) { inbox_.push_back(message); }
    [[nodiscard]] bool is_armed() const { return armed_; }
    [[nodiscard]] bool lives() const { return process_->alive; }
    void die() { process_->alive = false; }

    absl::Status roll_back(bool run, Duration limit) override;

  private:
    void watch();
    bool act(GuardWatch::Act act);

    Hosts& hosts_;
    const std::shared_ptr<Process> process_ = std::make_shared<Process>(Process{.name = "guard"});
    const std::shared_ptr<Process> agent_;
    const bool run_;
    DecisionWord word_;
    std::deque<GuardMessage> inbox_;
    bool armed_ = false;
};

}  // namespace godwit::sim
