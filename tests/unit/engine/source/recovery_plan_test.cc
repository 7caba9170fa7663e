#include "engine/source/recovery_plan.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

struct Found {
    v1::JournalPhase phase = v1::JOURNAL_PHASE_LIVE;
    Verdict word = Verdict::kOpen;
    bool vm = true;
    bool left_alone = false;
    bool runs = true;
    bool was_running = true;
    bool postcopy = false;
    bool kept_ram = false;
    v1::Resolution resolution = v1::RESOLUTION_NONE;

    [[nodiscard]] SourceRecovery plan() const {
        v1::JournalRecord record;
        record.set_phase(phase);
        record.set_was_running(was_running);
        record.set_postcopy(postcopy);
        record.set_resolution(resolution);
        return plan_source_recovery({.record = record,
                                     .word = word,
                                     .vm = vm,
                                     .left_alone = left_alone,
                                     .runs = [this] { return runs; },
                                     .has_kept_ram = [this] { return kept_ram; }});
    }
};

// FREEZING is on the disk before anything of a freeze begins.
TEST(SourceRecovery, LeavesAGuestThatWasNotFrozenAsItsOwnerHasIt) {
    for (const Verdict word : {Verdict::kOpen, Verdict::kAbort})
        for (const bool was_running : {true, false})
            for (const bool runs : {true, false})
                EXPECT_EQ((Found{.word = word, .runs = runs, .was_running = was_running}.plan()),
                          SourceRecovery::kWasNotFrozen);
}

TEST(SourceRecovery, GivesBackAGuestThatMayBeFrozen) {
    for (const Verdict word : {Verdict::kOpen, Verdict::kAbort})
        EXPECT_EQ((Found{.phase = v1::JOURNAL_PHASE_FREEZING, .word = word}.plan()),
                  SourceRecovery::kGiveBack);
}

TEST(SourceRecovery, AsksTheDestinationAboutAGuestOfWhichCommitWasSent) {
    Found found{.phase = v1::JOURNAL_PHASE_FREEZING, .word = Verdict::kCommit, .runs = false};
    EXPECT_EQ(found.plan(), SourceRecovery::kAsk);
    found.runs = true;
    EXPECT_EQ(found.plan(), SourceRecovery::kWasGivenBack);
}

TEST(SourceRecovery, KnowsAGuestWhoseQemuHasEndedOrWasLeftAlone) {
    EXPECT_EQ((Found{.vm = false}.plan()), SourceRecovery::kHasDied);
    EXPECT_EQ((Found{.vm = false, .left_alone = true}.plan()), SourceRecovery::kNeedsOperator);
}

TEST(SourceRecovery, SendsTheLastPagesWhileItHasThem) {
    for (const v1::JournalPhase phase : {v1::JOURNAL_PHASE_FREEZING, v1::JOURNAL_PHASE_DRAINING}) {
        Found found{.phase = phase, .word = Verdict::kCommit, .runs = false, .postcopy = true};
        EXPECT_EQ(found.plan(), SourceRecovery::kAsk);
        found.kept_ram = true;
        EXPECT_EQ(found.plan(), SourceRecovery::kDrain);
    }
}

TEST(SourceRecovery, AsksNobodyAboutAGuestThatAnOperatorHasSaidWhereItIs) {
    for (const v1::JournalPhase phase : {v1::JOURNAL_PHASE_FREEZING, v1::JOURNAL_PHASE_DRAINING})
        EXPECT_EQ((Found{.phase = phase,
                         .word = Verdict::kCommit,
                         .runs = false,
                         .postcopy = true,
                         .kept_ram = true,
                         .resolution = resolution_of(Fate::kNowhere)}
                       .plan()),
                  SourceRecovery::kIsNowhere);
    Found found{.phase = v1::JOURNAL_PHASE_FREEZING,
                .word = Verdict::kCommit,
                .runs = false,
                .resolution = resolution_of(Fate::kAtDestination)};
    EXPECT_EQ(found.plan(), SourceRecovery::kIsElsewhere);
    found.resolution = resolution_of(Fate::kRefused);
    EXPECT_EQ(found.plan(), SourceRecovery::kGiveBack);
}

}  // namespace
}  // namespace godwit
