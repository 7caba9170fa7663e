// Traveller: one guest of a soak, which goes there and back and testifies after each trip.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/lab/agent_pair.h"
#include "bench/lab/peer_argv.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "tests/soak/itinerary.h"

namespace godwit {

// A migration that ended in a way that the soak foresees; all others are errors.
enum class TripEnd { kMoved, kCancelled, kDidNotConverge };

//   kHome ── set_out() ──► kMoving ──► kTestifying ──► kHome
//
// Thread rule: one thread, that of the AgentPair. It blocks only in start().
class Traveller {
  public:
    struct Options {
        std::string name;  // no other guest's name begins so
        GuestConfig guest;
        int vcpus = 1;
        std::string more;  // further lines of the VM file
        uint64_t seed = 0;
        AgentPair* agents = nullptr;
        int cancel_fd = -1;
    };
    explicit Traveller(Options options)
        : options_(std::move(options)), itinerary_(options_.seed, options_.guest.kvm) {}

    // Boots it at the first agent. Errors: what is in the way; Cancelled.
    absl::Status start();
    [[nodiscard]] bool is_home() const { return stage_ == Stage::kHome; }
    // From kHome only. Errors: Child's.
    absl::Status set_out();
    // Readable when there may be something to do before wake_at(); -1: nothing to wait for.
    [[nodiscard]] int fd() const;
    [[nodiscard]] MonotonicTime wake_at() const;
    // Does what is due. Error: the guest was not moved as it should, or has found itself damaged;
    // the text says which trip it was.
    absl::Status step();

    [[nodiscard]] const std::string& name() const { return options_.name; }
    [[nodiscard]] uint64_t trips() const { return trips_; }
    [[nodiscard]] const std::map<TripEnd, uint64_t>& ends() const { return ends_; }
    [[nodiscard]] const std::map<std::string, uint64_t>& strategies() const { return strategies_; }
    [[nodiscard]] uint64_t checked_pages() const { return checked_; }
    // Of the last trip, as `godwit migrate` printed it.
    [[nodiscard]] const std::string& last_report() const { return report_; }

  private:
    enum class Stage { kHome, kMoving, kTestifying };
    struct Testimony {
        uint64_t ticks = 0;
        uint64_t checked = 0;
    };

    [[nodiscard]] absl::StatusOr<std::string> write_vm_file() const;
    [[nodiscard]] std::string migration_id() const;
    absl::Status meddle();
    absl::Status arrive(int exit_code);
    // Errors: DataLoss when the guest found anything wrong.
    [[nodiscard]] absl::StatusOr<Testimony> testimony() const;
    absl::Status testify();
    [[nodiscard]] absl::Status finding(const std::string& what) const;

    const Options options_;
    Itinerary itinerary_;
    Stage stage_ = Stage::kHome;
    int at_ = 0;  // which agent
    Trip trip_;
    uint64_t trips_ = 0;
    MonotonicTime deadline_{};  // of the stage
    std::optional<Child> move_;
    std::optional<Child> meddler_;
    size_t meddled_ = 0;  // how many of trip_.meddling are over
    MonotonicTime meddle_at_{};
    Testimony before_;
    uint64_t checked_ = 0;
    std::string report_;
    std::map<TripEnd, uint64_t> ends_;
    std::map<std::string, uint64_t> strategies_;
};

}  // namespace godwit
