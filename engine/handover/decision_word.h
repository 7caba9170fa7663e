// DecisionWord: the one word that decides whether a migration was committed or undone.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "engine/base/mapping.h"
#include "engine/base/status.h"

namespace godwit {

enum class Verdict : uint32_t {
    kOpen = 0,
    kCommit = 1,  // by the agent, before the COMMIT byte leaves
    kAbort = 2,   // by the guard or the agent: the guest goes on at the source
};

// A word in a mapped file of the state directory, shared by the agent, its guard and a restarted
// agent. It goes once from kOpen to one of the others, by compare-and-swap. Thread- and
// process-safe; survives the death of every process (not of the host, which ends the guest too).
class DecisionWord {
  public:
    // Opens `path`, creating it as kOpen when it is missing. Errors: open's, mmap's.
    static absl::StatusOr<DecisionWord> open(const std::string& path);
    // What another process made. Errors: NotFound, DataLoss when it is no word.
    static absl::StatusOr<DecisionWord> find(const std::string& path);

    [[nodiscard]] Verdict read() const;
    // Moves kOpen to `verdict`. True when this call did it or the word said so already.
    bool decide(Verdict verdict);
    // The same; true when this call did it.
    bool decide_first(Verdict verdict);

  private:
    explicit DecisionWord(Mapping mapping) : mapping_(std::move(mapping)) {}
    [[nodiscard]] std::atomic_ref<uint32_t> word() const;

    Mapping mapping_;
};

}  // namespace godwit
