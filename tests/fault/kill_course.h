// A migration that something is done to: how it is begun, where it has got to, how it ends. Of any
// hypervisor.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/fault/kill_plan.h"
#include "tests/harness/agent.h"

namespace godwit::testing {

// How the guest passes its time: all of its memory within half a second.
inline constexpr const char* kStruckGuestWords =
    "ws=4M rate=400 pattern=random sweep=2500 rest=halt dma=512K diskrate=100";
inline constexpr uint64_t kWholeSweep = 1'200;
inline constexpr Duration kStruckEndLimit = std::chrono::seconds(120);

// The flags that make a migration of that plan what it is.
std::vector<std::string> flags_of(const std::string& strategy, const std::string& tracker);

void print_line(const std::string& line);

class KillCourse {
  public:
    KillCourse(TestAgent& source, TestAgent& destination, std::string id)
        : source_(source), destination_(destination), id_(std::move(id)) {}

    BackgroundCommand begin(const KillPlan& plan);
    // `undisturbed`: what a migration of that strategy takes. For Moment::kAtStep an agent is to be
    // held there.
    void await_moment(const KillPlan& plan, Duration undisturbed, BackgroundCommand& command);
    // Whether the destination may have been told to let the guest run.
    [[nodiscard]] bool may_have_committed() const;
    // "source", "destination" or "none", as the source's agent has it when all is over.
    std::string await_end(BackgroundCommand& command);

  private:
    [[nodiscard]] bool journal_of_has(const TestAgent& agent, std::string_view phase) const;

    TestAgent& source_;
    TestAgent& destination_;
    std::string id_;
};

}  // namespace godwit::testing
