// When to stop the live rounds: a pure function of what was measured. No I/O, no clock.
//
// The classical pre-copy model (Clark et al., NSDI'05; its terminations as Xen has them): with P
// the page size, D the dirty rate and R the page rate, r = P·D/R; r >= 1 never converges.
//
// What further rounds can leave at the least: U(t), the distinct pages written within t, bends
// (dirty_curve.h), so that a shorter round sees pages come at the last one's mean rate or faster.
// With V pages left, c the time that a round costs whatever it sends: V' >= D·(V·P/R + c). Where
// even this does not come under the limit before the limits on rounds and data are reached, rounds
// are hopeless: then vCPUs are throttled, or a hybrid migration goes post-copy (as it does after a
// round that has not helped). Pre-copy without either goes on to its limits: they say how long it
// is to wait for a calmer guest.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/units.h"

namespace godwit {

enum class Strategy {
    kStopAndCopy,  // no live round; the guest resumes with all pages
    kPrecopy,      // live rounds until the rest is small; the guest resumes with all pages
    kPostcopy,     // no live round; the guest resumes at once, its pages follow
    kHybrid,       // live rounds while they help; the rest follows, unless it is next to nothing
};

// When the live rounds lead nowhere.
enum class NoConverge { kFail, kStopAndCopy, kPostcopy, kThrottle };

struct ConvergenceLimits {
    Strategy strategy = Strategy::kPrecopy;
    NoConverge on_no_converge = NoConverge::kFail;
    Duration downtime_limit = std::chrono::milliseconds(50);
    Bytes threshold = 0;       // switch when the rest is at most this; 0: by downtime_limit alone
    uint32_t max_rounds = 30;  // live rounds, round 0 included
    double max_data = 3.0;     // page bytes looked at, as a multiple of the touched RAM
    // Hybrid: what the last set may add to the pause; more of it follows after the resume.
    Duration last_set_limit = std::chrono::milliseconds(1);
};

// A round that leaves more than this part of its pages dirty has not helped: real guests write the
// same working set over and over, and then the next round leaves as much (FIELD section 2).
inline constexpr double kLeastShrink = 0.75;
// So many rounds ahead it is worth waiting for the limit, however many more are allowed.
inline constexpr uint32_t kRoundsAhead = 30;
// D of later rounds, at its best, as a part of D: a guest's rate varies from round to round. A set
// that does not shrink is found out all the same, unless it is so close to the limit that rounds
// are short.
inline constexpr double kRateAtItsBest = 0.97;

// Measured at the end of a round.
struct RoundObservation {
    uint32_t rounds_done = 0;
    Duration duration{};           // in which dirty_pages were written
    uint64_t round_pages = 0;      // that the round sent or looked at; 0: unknown
    uint64_t dirty_pages = 0;      // distinct pages written since the last collect (|D|)
    uint64_t unsettled_pages = 0;  // pages to read again after a drain; D is part of them
    double page_rate = 0;          // R: page bytes per second, before compression
    double check_rate = 0;         // page bytes per second for pages that turn out unchanged
    Bytes total_page_bytes = 0;    // looked at so far, all rounds
    Bytes touched = 0;             // allocated guest RAM
    Duration fixed_cost{};         // drain of the disks, device state, load, resume
};

enum class NextStep {
    kRound,          // another live round over the dirty pages
    kSettlingRound,  // the same after a drain of block I/O, unsettled pages included
    kSwitch,         // the rest fits: freeze
    kStopAndCopy,    // it will not converge: freeze all the same, as asked
    kPostcopy,       // freeze; the rest follows after the resume
    kThrottle,       // hold the vCPUs back more, then another round
    kGiveUp,         // it will not converge: the guest stays at the source
};

struct Decision {
    NextStep step = NextStep::kRound;
    double dirty_pages_per_s = 0;  // D
    double r = 0;                  // P·D/R; 0 when R is unknown
    Duration expected_downtime{};  // of a switch now, fixed cost included
    std::string reason;            // for the report, a whole clause
};

Decision decide(const RoundObservation& seen, const ConvergenceLimits& limits);

// What is left after the resume is taken to need half as long again as it would at the page rate
// that was seen: the rate is what it was, and the push yields to faults.
inline constexpr double kPushAllowance = 1.5;
// Whether the guest has to resume before its last pages are there for all to be over by `limit`:
// what is left takes as long as there is time. In a round that is what it has not sent yet, and
// what the guest has written of the rest meanwhile.
bool must_switch_by(Duration limit, Duration elapsed, uint64_t pages_left, double page_rate);

}  // namespace godwit
