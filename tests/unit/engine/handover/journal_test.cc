#include "engine/handover/journal.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/engine/handover/scratch_directory.h"

namespace godwit {
namespace {

using testing::ScratchDirectory;

v1::JournalRecord record_of(const std::string& id, v1::JournalPhase phase) {
    v1::JournalRecord record;
    record.set_migration_id(id);
    record.set_vm("vm");
    record.set_phase(phase);
    record.set_was_running(true);
    return record;
}

Journal open_journal(const ScratchDirectory& scratch, const std::string& id) {
    auto journal = Journal::open(scratch.path(), id);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
}

TEST(Journal, GivesBackWhatWasWrittenLast) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    EXPECT_FALSE(Journal::exists(scratch.path(), "m"));
    for (const auto phase : {v1::JOURNAL_PHASE_LIVE, v1::JOURNAL_PHASE_FREEZING})
        EXPECT_TRUE(journal.write(record_of("m", phase), Journal::Durability::kDisk).ok());
    EXPECT_TRUE(Journal::exists(scratch.path(), "m"));
    const auto records = Journal::load_all(scratch.path());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].phase(), v1::JOURNAL_PHASE_FREEZING);
    EXPECT_TRUE(records[0].was_running());
}

TEST(Journal, SkipsARecordThatCannotBeReadAndGivesTheOthers) {
    const ScratchDirectory scratch;
    for (const char* id : {"a", "b", "c"})
        EXPECT_TRUE(
            open_journal(scratch, id)
                .write(record_of(id, v1::JOURNAL_PHASE_LIVE), Journal::Durability::kPageCache)
                .ok());
    std::ofstream(scratch.path() + "/migrations/b/journal.json") << "{\"migration_id\": \"b";
    std::filesystem::create_directories(scratch.path() + "/migrations/empty");
    std::vector<std::string> ids;
    for (const auto& record : Journal::load_all(scratch.path()))
        ids.push_back(record.migration_id());
    std::sort(ids.begin(), ids.end());
    EXPECT_EQ(ids, (std::vector<std::string>{"a", "c"}));
}

TEST(Journal, OfANewStateDirectoryIsEmpty) {
    const ScratchDirectory scratch;
    EXPECT_TRUE(Journal::load_all(scratch.path()).empty());
}

TEST(Journal, KeepsTheOldRecordWhenANewOneCannotBeWritten) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    ASSERT_TRUE(
        journal.write(record_of("m", v1::JOURNAL_PHASE_LIVE), Journal::Durability::kPageCache)
            .ok());
    // What the next record is first written to can't be opened.
    std::filesystem::create_directory(scratch.path() + "/migrations/m/journal.json.new");
    EXPECT_FALSE(
        journal.write(record_of("m", v1::JOURNAL_PHASE_CONT), Journal::Durability::kPageCache)
            .ok());
    const auto records = Journal::load_all(scratch.path());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].phase(), v1::JOURNAL_PHASE_LIVE);
}

TEST(Journal, IsNeverSeenHalfWritten) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    v1::JournalRecord record = record_of("m", v1::JOURNAL_PHASE_LIVE);
    ASSERT_TRUE(journal.write(record, Journal::Durability::kPageCache).ok());
    std::atomic<bool> done{false};
    std::jthread writer([&] {
        for (int i = 0; i < 300; ++i) {
            record.set_detail(std::string(static_cast<size_t>(i % 7) * 5000, 'x'));
            EXPECT_TRUE(journal.write(record, Journal::Durability::kPageCache).ok());
        }
        done = true;
    });
    while (!done) EXPECT_EQ(Journal::load_all(scratch.path()).size(), 1U);
}

TEST(Journal, TakesNoIdThatIsUnsafeAsAFileName) {
    const ScratchDirectory scratch;
    for (const std::string& id : {std::string(), std::string("../x"), std::string("a/b"),
                                  std::string(".hidden"), std::string(65, 'a'), std::string("a b")})
        EXPECT_TRUE(absl::IsInvalidArgument(Journal::open(scratch.path(), id).status())) << id;
    EXPECT_TRUE(is_valid_id(std::string(64, 'a')));
    EXPECT_TRUE(is_valid_id("m-0.1_x"));
}

}  // namespace
}  // namespace godwit
