// Two agents, a guest with disks at the first, and a migration that can be stopped at any step.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/handover/decision_word.h"
#include "engine/handover/step_hook.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {

inline constexpr const char* kId = "m";  // of the migration under test
inline constexpr const char* kVm = "vm";

// Looks at a guest's RAM file without any agent.
class GuestWatch {
  public:
    explicit GuestWatch(const std::string& ram_file);
    [[nodiscard]] uint64_t ticks() const;
    // How long it takes until the guest ticks once `after` was done; nothing when it does not
    // within `limit`.
    std::optional<Duration> until_it_runs(Duration limit,
                                          const std::function<void()>& after = {}) const;
    // That it does not tick for a while.
    [[nodiscard]] bool stands_still() const;

  private:
    std::string path_;  // through a descriptor of our own: the name may be removed
    UniqueFd file_;
};

AgentOptions hold_at(std::string_view step, const std::vector<std::string>& more_flags = {});
bool is_held(const TestAgent& agent);
// Waits until it is held; a failure of the test when it is not.
void await_held(TestAgent& agent);
void let_go(const TestAgent& agent);
Verdict word_at(const TestAgent& agent);

// One command to a VM's QEMU through the monitor that is kept for the guard: only while there is no
// guard. The answer as JSON; a failure of the test when QEMU says no.
nlohmann::json ask_qemu(const TestAgent& agent, const std::string& command,
                        const nlohmann::json& arguments = nlohmann::json::object());

// The guards of an agent, alive.
std::vector<pid_t> guards_of(const TestAgent& agent);

// Kills `pid` and waits until it is gone.
void kill_process(pid_t pid);

class Lab : public ::testing::Test {
  protected:
    Lab() = default;
    Lab(AgentOptions of_a, AgentOptions of_b) : a(std::move(of_a)), b(std::move(of_b)) {}
    // How the guest passes its time.
    [[nodiscard]] virtual std::string guest_words() const {
        return "ws=16M rate=5000 sweep=5000 rest=halt dma=1M diskrate=500";
    }
    // Further lines of its file.
    [[nodiscard]] virtual std::string more_of_vm_file() const { return {}; }
    // The guest reads its first disk all the time and checks what comes; the second is for us.
    void SetUp() override;
    // Also frees what is held, so that agents can end.
    void TearDown() override;

    // From a to b, id kId; with --json, and by pre-copy unless `flags` name another strategy.
    BackgroundCommand begin_migration(const std::vector<std::string>& flags = {});
    // The same, and returns in the middle of a round that would take many minutes.
    BackgroundCommand begin_slow_round();
    // Restarts an agent that was killed (or ends it first), without any hold.
    static void bring_back(TestAgent& agent);

    // Waits until a's log has `words`.
    void await_log(const std::string& words);
    // Waits until COMMIT is in b's journal. Sent is not heard: a destination that dies in between,
    // or sees its streams break first, never had the guest, and it is the source's again.
    void await_commit_heard();

    // The command ends with this, or, where the command lost its agent, the report says it.
    void expect_end(BackgroundCommand& command, const Ending& ending, const std::string& guest_at);
    void expect_report(const Ending& ending, const std::string& guest_at);

    // The guest runs at `here`, reads and can write its disks, and there is nothing of it at
    // `there`; no guard is left at either.
    void expect_only_at(TestAgent& here, TestAgent& there);
    // A second migration moves it, with --verify.
    void expect_moves(TestAgent& from, TestAgent& to);
    // Both: the guest is at the source, and a retry succeeds.
    void expect_at_a_and_moves();

    TestAgent a;
    TestAgent b;
    std::string disk;     // that the guest checks
    std::string scratch;  // a raw image of a megabyte

  private:
    void expect_disk_writable(TestAgent& agent);
    uint8_t pattern_ = 0x50;
};

inline const Ending kCancelled{.exit_code = 5, .outcome = "cancelled"};
inline const Ending kDone{.exit_code = 0, .outcome = "done"};
inline const Ending kDied{.exit_code = 6, .outcome = "guest-died"};

// Test name from a step's name.
std::string step_name(const ::testing::TestParamInfo<std::string_view>& info);

}  // namespace godwit::testing
