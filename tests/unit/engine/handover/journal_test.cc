#include "engine/handover/journal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "engine/base/hash.h"
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

TEST(Journal, SyncsWhatIsInForceAndSaysWhereNothingIs) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    EXPECT_TRUE(absl::IsNotFound(journal.sync())) << journal.sync();
    const v1::JournalRecord record = record_of("m", v1::JOURNAL_PHASE_LIVE);
    EXPECT_TRUE(journal.write(record, Journal::Durability::kPageCache).ok());
    EXPECT_TRUE(journal.sync().ok()) << journal.sync();
    EXPECT_EQ(Journal::load_all(scratch.path()).size(), 1U);
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

std::string path_of(const ScratchDirectory& scratch) {
    return scratch.path() + "/migrations/m/journal.json";
}

std::string slurp(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Writes a record of a migration "m" and returns its text.
std::string text_of_one(const ScratchDirectory& scratch) {
    v1::JournalRecord record = record_of("m", v1::JOURNAL_PHASE_FREEZING);
    // What looks like a last line within the record is none.
    record.set_detail("one\ngodwit-journal 1 0123456789abcdef\n");
    EXPECT_TRUE(open_journal(scratch, "m").write(record, Journal::Durability::kDisk).ok());
    EXPECT_EQ(Journal::load_all(scratch.path()).at(0).detail(), record.detail());
    return slurp(path_of(scratch));
}

TEST(Journal, WithAnyByteChangedIsSkippedAndWasHereAllTheSame) {
    const ScratchDirectory scratch;
    const std::string text = text_of_one(scratch);
    for (size_t at = 0; at < text.size(); ++at) {
        std::string damaged = text;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        EXPECT_FALSE(decode_journal(damaged).ok()) << "byte " << at;
    }
    std::ofstream(path_of(scratch))
        << text.substr(0, text.size() / 2) << static_cast<char>(text[text.size() / 2] ^ 1)
        << text.substr(text.size() / 2 + 1);
    EXPECT_TRUE(Journal::load_all(scratch.path()).empty());
    EXPECT_TRUE(Journal::exists(scratch.path(), "m"));
}

TEST(Journal, CutShortAnywhereIsSkippedAndWasHereAllTheSame) {
    const ScratchDirectory scratch;
    const std::string text = text_of_one(scratch);
    for (size_t length = 0; length < text.size(); ++length)
        EXPECT_TRUE(absl::IsDataLoss(decode_journal(text.substr(0, length)).status())) << length;
    std::ofstream(path_of(scratch)).close();
    EXPECT_TRUE(Journal::load_all(scratch.path()).empty());
    EXPECT_TRUE(Journal::exists(scratch.path(), "m"));
}

TEST(Journal, OfAnotherVersionIsSkippedAndBothVersionsAreNamed) {
    const std::string body = "{\"migration_id\":\"m\"}\n";
    const auto status = decode_journal(fmt::format("{}godwit-journal 7 {:016x}\n", body,
                                                   checksum_bytes(std::as_bytes(std::span(body)))))
                            .status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status));
    EXPECT_EQ(status.message(), "it is of version 7, and this agent knows 1");
}

TEST(Journal, ThatCannotBeOpenedWasHereAllTheSame) {
    const ScratchDirectory scratch;
    open_journal(scratch, "m");
    std::filesystem::create_directory(path_of(scratch));
    EXPECT_TRUE(Journal::load_all(scratch.path()).empty());
    EXPECT_TRUE(Journal::exists(scratch.path(), "m"));
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

TEST(Journal, TakesAPreparedRecordInPlaceOfTheOld) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    ASSERT_TRUE(
        journal.write(record_of("m", v1::JOURNAL_PHASE_LIVE), Journal::Durability::kPageCache)
            .ok());
    const v1::JournalRecord next = record_of("m", v1::JOURNAL_PHASE_CONT);
    absl::StatusOr<Journal::Prepared> prepared = journal.prepare(next, "next");
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    EXPECT_EQ(Journal::load_all(scratch.path())[0].phase(), v1::JOURNAL_PHASE_LIVE);
    // It is the same file: nothing is written a second time.
    struct stat before {};
    struct stat after {};
    ASSERT_EQ(::stat((scratch.path() + "/migrations/m/next").c_str(), &before), 0);
    ASSERT_TRUE(journal.write(next, *prepared).ok());
    ASSERT_EQ(::stat(path_of(scratch).c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino);
    EXPECT_EQ(Journal::load_all(scratch.path())[0].phase(), v1::JOURNAL_PHASE_CONT);
}

TEST(Journal, WritesWhatWasNotPrepared) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    v1::JournalRecord record = record_of("m", v1::JOURNAL_PHASE_CONT);
    {
        absl::StatusOr<Journal::Prepared> prepared = journal.prepare(record, "next");
        ASSERT_TRUE(prepared.ok()) << prepared.status();
        record.set_was_running(!record.was_running());
        ASSERT_TRUE(journal.write(record, *prepared).ok());
        EXPECT_EQ(Journal::load_all(scratch.path())[0].was_running(), record.was_running());
        // Prepared, and gone since.
        prepared = journal.prepare(record, "next");
        ASSERT_TRUE(std::filesystem::remove(scratch.path() + "/migrations/m/next"));
        ASSERT_TRUE(journal.write(record, *prepared).ok());
        prepared = journal.prepare(record, "next");
    }
    EXPECT_EQ(Journal::load_all(scratch.path()).size(), 1U);
    EXPECT_FALSE(std::filesystem::exists(scratch.path() + "/migrations/m/next"));
}

TEST(Journal, TakesBackAPreparedRecordWithoutWriting) {
    const ScratchDirectory scratch;
    const Journal journal = open_journal(scratch, "m");
    ASSERT_TRUE(
        journal.write(record_of("m", v1::JOURNAL_PHASE_LIVE), Journal::Durability::kPageCache)
            .ok());
    const v1::JournalRecord next = record_of("m", v1::JOURNAL_PHASE_CONT);
    absl::StatusOr<Journal::Prepared> prepared = journal.prepare(next, "next");
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    EXPECT_TRUE(absl::IsFailedPrecondition(journal.take_back(*prepared)));
    ASSERT_TRUE(journal.write(next, *prepared).ok());
    // What a record is first written to can't be opened: as good as a full disk.
    std::filesystem::create_directory(scratch.path() + "/migrations/m/journal.json.new");
    EXPECT_TRUE(journal.take_back(*prepared).ok());
    EXPECT_EQ(Journal::load_all(scratch.path())[0].phase(), v1::JOURNAL_PHASE_LIVE);
    EXPECT_TRUE(absl::IsFailedPrecondition(journal.take_back(*prepared)));
    EXPECT_EQ(Journal::load_all(scratch.path())[0].phase(), v1::JOURNAL_PHASE_LIVE);
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
