#include "engine/destination/recovery_plan.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

struct Found {
    v1::JournalPhase phase = v1::JOURNAL_PHASE_LIVE;
    std::string noted_boot = "this";
    std::string boot = "this";
    bool vm = true;
    bool left_alone = false;
    bool given_back = false;
    bool postcopy = false;
    bool was_running = true;

    [[nodiscard]] DestinationRecovery plan() const {
        v1::JournalRecord record;
        record.set_phase(phase);
        record.set_boot_id(noted_boot);
        record.set_postcopy(postcopy);
        record.set_was_running(was_running);
        return plan_destination_recovery({.record = record,
                                          .boot_id = boot,
                                          .has_vm = [this] { return vm; },
                                          .left_alone = [this] { return left_alone; },
                                          .given_back = [this] { return given_back; }});
    }
};

TEST(DestinationRecovery, EndsACopyThatCommitNeverCameFor) {
    EXPECT_EQ(Found{}.plan(), DestinationRecovery::kEndStale);
    EXPECT_EQ((Found{.vm = false}.plan()), DestinationRecovery::kEndStale);
    EXPECT_EQ((Found{.vm = false, .left_alone = true}.plan()), DestinationRecovery::kNoAnswer);
}

// REFUSED would be a guess, for COMMIT may have been noted in memory only.
TEST(DestinationRecovery, OfAnEarlierBootSaysThatWhateverRanIsGone) {
    for (const bool left_alone : {false, true})
        EXPECT_EQ(
            (Found{.noted_boot = "an earlier one", .vm = false, .left_alone = left_alone}.plan()),
            DestinationRecovery::kWasLost);
}

TEST(DestinationRecovery, ClaimsNoRestartThatItDoesNotKnowOf) {
    EXPECT_EQ((Found{.noted_boot = "", .vm = false}.plan()), DestinationRecovery::kNoAnswer);
    EXPECT_EQ((Found{.boot = "", .vm = false}.plan()), DestinationRecovery::kNoAnswer);
    // Its QEMU is here.
    EXPECT_EQ((Found{.noted_boot = "an earlier one"}.plan()), DestinationRecovery::kNoAnswer);
}

TEST(DestinationRecovery, OfAGuestThatIsItsOwnGoesOn) {
    const v1::JournalPhase cont = v1::JOURNAL_PHASE_CONT;
    EXPECT_EQ((Found{.phase = cont}.plan()), DestinationRecovery::kResume);
    EXPECT_EQ((Found{.phase = cont, .was_running = false}.plan()), DestinationRecovery::kArrived);
    EXPECT_EQ((Found{.phase = cont, .postcopy = true}.plan()), DestinationRecovery::kDrain);
    EXPECT_EQ((Found{.phase = cont, .given_back = true}.plan()), DestinationRecovery::kEndStale);
    EXPECT_EQ((Found{.phase = v1::JOURNAL_PHASE_DRAINING}.plan()), DestinationRecovery::kDrain);
    for (const v1::JournalPhase phase : {cont, v1::JOURNAL_PHASE_DRAINING}) {
        EXPECT_EQ((Found{.phase = phase, .noted_boot = "an earlier one", .vm = false}.plan()),
                  DestinationRecovery::kGuestGone);
        EXPECT_EQ((Found{.phase = phase, .vm = false, .left_alone = true}.plan()),
                  DestinationRecovery::kNoAnswer);
    }
}

}  // namespace
}  // namespace godwit
