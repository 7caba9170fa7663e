// Journal: one small file per migration in the state directory, replaced atomically.
//
// The record as JSON, for people too, and a last line for us:
//
//   {"migration_id":"m-0123456789ab","role":"ROLE_SOURCE",…}
//   godwit-journal <version> <XXH3-64 of everything before this line, 16 hexadecimal digits>
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

// <state>/migrations/<id>/{journal.json,word,missing}. Not thread-safe per migration.
class Journal {
  public:
    // A record that is on the disk but not in force: where it is foreseen, a pause need not wait
    // for its writing (0.4-0.9 ms with ext4). Its file goes with it.
    class Prepared {
      public:
        Prepared() = default;
        Prepared(Prepared&& other) noexcept;
        Prepared& operator=(Prepared&& other) noexcept;
        ~Prepared();

      private:
        friend class Journal;
        std::string bytes_;       // of the record; empty: used up
        std::string path_;        // empty: there is none
        bool exchanged_ = false;  // it is in force, and what was before has its name
    };

    // Creates the migration's folder. Errors: mkdir's, InvalidArgument for a bad id.
    static absl::StatusOr<Journal> open(const std::string& state_dir, const std::string& id);
    // Whether this agent has had a migration of that id, in either role. One whose record can't be
    // read has been here all the same.
    static bool exists(const std::string& state_dir, const std::string& id);
    // The records of all migrations in the state directory. What is damaged, or of another version,
    // is logged and skipped: nobody acts on it, and it stays for who can read it.
    static std::vector<v1::JournalRecord> load_all(const std::string& state_dir);

    enum class Durability {
        kPageCache,  // survives the process
        kDisk,       // survives the host: fsync of file and folders; never inside the pause
    };
    // Replaces the record. Errors: write's (a full disk among them); the old record then stays.
    absl::Status write(const v1::JournalRecord& record, Durability durability) const;
    // What is in force, to the disk: never inside the pause. Errors: fsync's.
    absl::Status sync() const;
    // To the disk: not for a pause. `name` is that of its file beside the journal's, one for each
    // record. Errors: as write().
    absl::StatusOr<Prepared> prepare(const v1::JournalRecord& record,
                                     const std::string& name) const;
    // As write() for the page cache, but an exchange of two names where `prepared` is this very
    // record, which is used up then.
    absl::Status write(const v1::JournalRecord& record, Prepared& prepared) const;
    // What was in force before write() exchanged it for `prepared`, the last that was written, is
    // so again. On a full disk, too. Errors: FailedPrecondition when there was no such exchange, or
    // it was taken back; those of an exchange of two names.
    absl::Status take_back(Prepared& prepared) const;

    [[nodiscard]] std::string word_path() const { return folder_ + "/word"; }
    [[nodiscard]] std::string missing_path() const { return folder_ + "/missing"; }

  private:
    explicit Journal(std::string folder) : folder_(std::move(folder)) {}
    [[nodiscard]] std::string path() const { return folder_ + "/journal.json"; }
    std::string folder_;
};

inline constexpr uint32_t kJournalVersion = 1;

// The text of a journal. Errors: Internal when the record has no JSON form.
absl::StatusOr<std::string> encode_journal(const v1::JournalRecord& record);
// Errors: DataLoss (damaged, or cut short), FailedPrecondition (another version: both are named).
absl::StatusOr<v1::JournalRecord> decode_journal(const std::string& text);

// 1–64 characters of [A-Za-z0-9._-], the first a letter or digit: safe as a file name.
bool is_valid_id(const std::string& id);

}  // namespace godwit
