// One migration between two simulated hosts, with everything that a seed has go wrong.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/sim/hosts.h"

namespace godwit::sim {

struct Outcome {
    std::string violation;  // empty: the guest was not lost
    std::vector<std::string> history;
    v1::GuestAt guest_at = v1::GUEST_AT_SOURCE;
    bool was_in_doubt = false;
    bool operator_spoke = false;
    bool drained = false;          // pages followed the guest
    bool said_to_be_lost = false;  // by an operator
};

// What many seeds came to.
struct Tally {
    uint64_t runs = 0;
    uint64_t at_source = 0;
    uint64_t at_destination = 0;
    uint64_t died = 0;
    uint64_t in_doubt = 0;         // meanwhile
    uint64_t operator_spoke = 0;   // and ended it
    uint64_t drained = 0;          // pages followed the guest, whatever came of it
    uint64_t said_to_be_lost = 0;  // what the operator said then
    uint64_t failed = 0;

    void add(const Outcome& outcome);
    [[nodiscard]] std::string text() const;
};

// The same seed and mutant, the same history.
Outcome simulate(uint64_t seed, Mutant mutant = Mutant::kNone);

struct NamedMutant {
    Mutant mutant;
    const char* name;
    uint64_t first_seed = 0;  // where a search begins: one that is rarely found would take a minute
};
const std::vector<NamedMutant>& mutants();

}  // namespace godwit::sim
