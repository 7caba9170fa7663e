// The lab for post-copy: a guest that takes long over its memory, so that a drain can be caught in
// the middle; and a witness that sees whether two guests ever ran.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/fault/lab.h"

namespace godwit::testing {

// Looks at both sides' RAM files all the time. Once the guest has run at the destination it must
// never run at the source again.
class OneGuestWitness {
  public:
    // RAM files at the destination: none as long as it has nothing of the guest.
    using Files = std::function<std::vector<std::string>()>;

    // `source`: where the guest is.
    OneGuestWitness(TestAgent& source, const TestAgent& destination);
    OneGuestWitness(TestAgent& source, Files at_destination);
    ~OneGuestWitness();
    OneGuestWitness(const OneGuestWitness&) = delete;
    OneGuestWitness& operator=(const OneGuestWitness&) = delete;

    [[nodiscard]] bool ran_at_destination() const { return ran_there_; }
    // Ends the watch; a failure of the test when two guests ran.
    void expect_one();

  private:
    void watch(const std::stop_token& stop);

    GuestWatch source_;
    const Files at_destination_;
    std::atomic<bool> ran_there_{false};
    std::atomic<bool> ran_here_after_{false};
    std::jthread thread_;
};

class DrainLab : public Lab {
  protected:
    using Lab::Lab;
    void SetUp() override;
    void TearDown() override;
    // 8 MiB, all of it looked at within a second. What it does not ask for by itself in a drain
    // comes at kBandwidth.
    [[nodiscard]] std::string guest_words() const override {
        return "ws=8M rate=500 pattern=random sweep=2500 rest=halt dma=512K diskrate=100";
    }
    static constexpr const char* kBandwidth = "4MiB/s";

    // From a to b by post-copy, id kId, with --json.
    BackgroundCommand begin_postcopy(const std::vector<std::string>& flags = {});
    // Pages that are missing at b: as the file says that its agent keeps.
    [[nodiscard]] uint64_t missing_at_b() const;
    // Whether a's journal says that phase: a part of its name.
    [[nodiscard]] bool journal_says(std::string_view phase) const;
    // Waits until the guest runs at b, and `part` (0 to 1) of what was missing then has come. False
    // when the drain was over first.
    bool await_drained(double part);

    // Its agent was ended: the command can't know how the migration ended.
    static void expect_lost(BackgroundCommand& command);
    // All is over: the guest is at b, whole, alone, with all its pages; nothing is left of the
    // drain. `report` is the last word of a's agent.
    void expect_drained(const nlohmann::json& report);
    // The same, asking for the report of an agent that was restarted.
    void expect_drained_in_the_end();
    // For a migration whose command is still there.
    void expect_drained_by(BackgroundCommand& command);
    // The guest is at a and runs; nothing is left at b, and no second link to RAM anywhere.
    void expect_back_at_a();
    // The report of the migration now.
    nlohmann::json report();

    // Restarts an agent so that it stops at `step`.
    static void hold(TestAgent& agent, std::string_view step,
                     const std::vector<std::string>& more_flags = {});

    std::optional<OneGuestWitness> witness;

  private:
    pid_t qemu_of_a_ = -1;
};

// Names of what is linked a second time, or of migrations, in an agent's RAM mounts.
std::vector<std::string> kept_files(const TestAgent& agent);
// Whether a userfaultfd catches missing pages in that process.
bool has_missing_faults(pid_t pid);

}  // namespace godwit::testing
