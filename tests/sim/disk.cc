#include "tests/sim/disk.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

namespace godwit::sim {

Disk::Disk(World& world) : world_(world), word_(::memfd_create("word", MFD_CLOEXEC)) {}

Disk::~Disk() {
    ::close(word_);
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

absl::Status Disk::write(const v1::JournalRecord& record, Journal::Durability durability,
                         bool prepared) {
    if (full && !prepared) return absl::ResourceExhaustedError("No space left on device");
    GODWIT_ASSIGN_OR_RETURN(std::string text, encode_journal(record));
    exchanged_ = prepared ? texts_.back() : "";
    if (durability == Journal::Durability::kDisk) texts_.clear();
    texts_.push_back(std::move(text));
    world_.say(fmt::format("{} journal: {}{}{}",
                           record.role() == v1::ROLE_SOURCE ? "source's" : "destination's",
                           v1::JournalPhase_Name(record.phase()),
                           record.resolution() == v1::RESOLUTION_NONE ? "" : ", resolved",
                           durability == Journal::Durability::kDisk ? ", synced" : ""));
    return absl::OkStatus();
}

absl::Status Disk::take_back() {
    if (exchanged_.empty()) return absl::FailedPreconditionError("nothing was exchanged");
    texts_.push_back(std::exchange(exchanged_, {}));
    world_.say("destination's journal: CONT is taken back");
    return absl::OkStatus();
}

std::optional<v1::JournalRecord> Disk::read() const {
    if (texts_.back().empty()) return std::nullopt;
    absl::StatusOr<v1::JournalRecord> record = decode_journal(texts_.back());
    if (!record.ok()) return std::nullopt;
    return *std::move(record);
}

bool Disk::may_say(v1::JournalPhase phase) const {
    return std::any_of(texts_.begin(), texts_.end(), [&](const std::string& text) {
        const absl::StatusOr<v1::JournalRecord> record = decode_journal(text);
        return record.ok() && record->phase() == phase;
    });
}

absl::StatusOr<DecisionWord> Disk::open_word() {
    word_is_there_ = true;
    return DecisionWord::open(fmt::format("/proc/self/fd/{}", word_));
}

absl::StatusOr<Verdict> Disk::find_word() {
    if (!word_is_there_) return absl::NotFoundError("there is no word");
    GODWIT_ASSIGN_OR_RETURN(const DecisionWord word,
                            DecisionWord::find(fmt::format("/proc/self/fd/{}", word_)));
    return word.read();
}

absl::StatusOr<std::string> Disk::missing_path() {
    if (folder_.empty()) {
        std::string name = std::filesystem::temp_directory_path() / "godwit-sim-XXXXXX";
        if (::mkdtemp(name.data()) == nullptr) return errno_status(errno, "mkdtemp");
        folder_ = name;
    }
    return folder_ + "/missing";
}

void Disk::lose_power() {
    texts_ = {texts_[world_.below(texts_.size())]};
    if (!word_is_there_) return;
    const uint64_t fate = world_.below(3);
    if (fate == 0) word_is_there_ = false;
    const uint32_t open = 0;
    if (fate == 1 && ::pwrite(word_, &open, sizeof open, 0) != sizeof open) errno = 0;
}

}  // namespace godwit::sim
