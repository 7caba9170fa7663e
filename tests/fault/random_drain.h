// A migration into whose way something comes at a random moment. The seed is printed;
// GODWIT_FAULT_SEED takes it again.
#pragma once

#include <cstdint>
#include <random>

#include "tests/fault/drain_lab.h"
#include "tests/harness/linked_hosts.h"

namespace godwit::testing {

// The parameter counts the tests of a suite.
class RandomDrain : private LinkedHosts,
                    public DrainLab,
                    public ::testing::WithParamInterface<int> {
  protected:
    RandomDrain() : DrainLab(on(0), on(1)) {}
    void SetUp() override;

    // Between the two, both ends included.
    int64_t draw(int64_t least, int64_t most);
    Duration draw_ms(int64_t least, int64_t most);

    // Post-copy or hybrid, drawn; returns at a moment between its first step and a little after
    // its end, drawn too.
    BackgroundCommand begin_and_await_a_moment();
    void kill_and_bring_back();
    // For that long at one of the hosts.
    void cut(Duration length);

    // Whole, running and alone where the source's agent says it is, and nothing of it elsewhere.
    void expect_one_whole_guest(BackgroundCommand& command);

  private:
    // "source" or "destination".
    std::string guest_at_in_the_end(BackgroundCommand& command);

    std::mt19937_64 random_;
};

class RandomKills : public RandomDrain {};
class RandomCuts : public RandomDrain {};

}  // namespace godwit::testing
