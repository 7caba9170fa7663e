// Itinerary: what befalls a guest in a soak, drawn from a seed. Pure: no clock, no I/O.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/base/clock.h"

namespace godwit {

// What is done to a migration while it runs.
struct Meddling {
    Duration after{};                // its begin, or what was done before
    std::string command;             // limit, switch, cancel
    std::vector<std::string> flags;  // of that command, after the migration's id
};

struct Trip {
    std::vector<std::string> flags;  // of `godwit migrate`
    std::vector<Meddling> meddling;  // in order
    bool may_fail = false;           // pre-copy that is to give up where its rounds don't converge
    [[nodiscard]] bool is_cancelled() const;
    [[nodiscard]] std::string strategy() const { return flags[1]; }
};

// The same seed and kind of guest: the same trips, with any library and on any machine.
class Itinerary {
  public:
    Itinerary(uint64_t seed, bool kvm) : kvm_(kvm), random_(seed) {}
    Trip next();

  private:
    int64_t draw(int64_t least, int64_t most);
    template <size_t kCount>
    const char* one_of(const char* const (&choices)[kCount]) {
        return choices[draw(0, kCount - 1)];
    }
    void choose_what_follows(Trip& trip);
    void meddle(Trip& trip);

    const bool kvm_;
    std::mt19937_64 random_;
};

}  // namespace godwit
