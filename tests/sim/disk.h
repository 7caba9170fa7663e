// The state directory of a simulated host: one journal, one word.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/handover/decision_word.h"
#include "engine/handover/journal.h"
#include "tests/sim/world.h"

namespace godwit::sim {

class Disk {
  public:
    explicit Disk(World& world);
    ~Disk();
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    bool full = false;

    // As Journal::write(); `prepared` needs no room, and can be taken back.
    absl::Status write(const v1::JournalRecord& record, Journal::Durability durability,
                       bool prepared = false);
    // As Journal::sync().
    void sync() { texts_ = {texts_.back()}; }
    // Whatever was there is not any more.
    void wipe() { texts_ = {""}; }
    // As Journal::take_back().
    absl::Status take_back();
    [[nodiscard]] std::optional<v1::JournalRecord> read() const;
    // Whether power that is lost now may leave one of `phase`.
    [[nodiscard]] bool may_say(v1::JournalPhase phase) const;
    // A mapped file, for agent and guard; what it says is only in memory.
    absl::StatusOr<DecisionWord> open_word();
    absl::StatusOr<Verdict> find_word();
    // Where the real file of missing pages is; a folder of this disk's own is made for it.
    absl::StatusOr<std::string> missing_path();
    // What was not synced is as it was, or as it has been since the last sync.
    void lose_power();

  private:
    World& world_;
    std::vector<std::string> texts_{""};  // the synced one first
    std::string exchanged_;               // for what was prepared
    int word_ = -1;
    bool word_is_there_ = false;
    std::string folder_;
};

}  // namespace godwit::sim
