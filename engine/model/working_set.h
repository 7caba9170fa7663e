// The model that counts a page once: U(t) distinct pages are written within a window t
// (dirty_curve.h), so a round over V(i) pages leaves
//   t(i) = V(i)·P/R + c,   V(i+1) = (1 − s)·U(t(i)),   V(0) = touched pages
// with R page bytes per second before compression, c the time that a round costs whatever it sends,
// s the share of pages that a round need not send after all (written again before they were read,
// or found unchanged). Each round is put to the engine's own policy (convergence.h), so what is
// predicted is what the engine would do. With the last set V(n):
//   precopy:   Tdown = F + V(n)·P/R,  Tmig = setup + Σ t(i) + Tdown
//   post-copy: Tdown = F,             Tmig = setup + Σ t(i) + F + V(n)·P/R + faults·f
//   faults = q·(V(n)/V(0))·(1/T)·∫₀ᵀ U(t) dt, T = V(n)·P/R: a page counts where the guest wants it
//   first at t and it has not come yet, which is so with probability 1 − t/T (by parts: the mean
//   of U); q is the share that pre-paging leaves.
// F, c, f and the CPU costs are measured on the two hosts. Of the strategies, throttling slows the
// guest's own time: U(t) becomes U((1 − p)·t).
// Sources: Nathan et al., SoCC'15 (skipped and unique pages decide); Hines & Gopalan, VEE'09
// (post-copy, faults against pre-paging); Akoush et al., MASCOTS'10 (fixed costs).
#pragma once

#include "engine/model/dirty_curve.h"
#include "engine/model/dropped_pages.h"
#include "engine/model/forecast.h"

namespace godwit {

struct MigrationCosts {
    double setup_s = 0;      // until round 0 begins
    double per_round_s = 0;  // c: collect, markers, confirmation
    double pause_s = 0;      // F: drain, device state, load, resume
    double fault_s = 0;      // f: how long the drain stands still for one fault
    double cpu_s_per_page_byte = 0;
    double cpu_s_per_wire_byte = 0;
};

struct WorkingSetInput {
    double touched_pages = 0;
    Interval page_rate;  // R: low is the slow end
    // For engine_forecast() alone: R in the pause, where the guest takes no CPU; 0: the same.
    Interval pause_rate;
    double wire_share = 1;     // wire bytes per page byte: compressibility, zero pages
    double skipped_share = 0;  // s
    double fault_share = 1;    // q
    // For engine_forecast() alone. Zero pages of the touched ones: they cost nothing on the wire,
    // and page_rate and wire_share are of all.
    double zero_share = 0;
    // What lies between reading and the link: full chunks, or what a round has of them, and bytes
    // of sockets.
    double read_ahead_chunks = 0;
    double read_ahead_pages = 0;
    bool rearms_as_read = false;  // as DirtyTracker has it
    // What the first write to an armed page costs a guest that never rests; 0: it has time to
    // spare.
    double first_write_s = 0;
    Backing backing = Backing::kTmpfs4k;
    WriteSpread spread;
    MigrationCosts costs;
    ConvergenceLimits limits;  // the strategy among them
};

// The interval's low end is the 10th percentile of U with the fast rate, its high end the 90th with
// the slow one. Errors: InvalidArgument for absurd numbers.
absl::StatusOr<Forecast> working_set_forecast(const DirtyCurves& curves,
                                              const WorkingSetInput& input);

// The same with what the engine does beside these formulas:
// * A round looks at each page that was written, and sends those with something new. A page that a
//   round of length t had read is new only if it was written after that, any rest of the round
//   alike: so of those the mean of U over t is sent, (1/t)·∫₀ᵗ U(x) dx, and of the others U(t). The
//   policy sees U(t) all the same, for pages are armed before the round; but where later rounds arm
//   what they are about to read (kvm-dirty-log), it sees no more of them than they send. The part
//   that was read: V(i) / U(time so far). Nathan et al. call such pages skipped. Reading is ahead
//   of the link: with a of n pages in between, a are read as the round begins, and the others' rest
//   of the round is a/n·t to t.
// * A guest that never rests is held back by tracking alone: the first write to a page since it was
//   armed costs it f. What it has of a time t for itself is s(t) = t − f·U(t), and within s it
//   comes by as many pages as U has at s⁻¹(s). Where that is dirty already it passes at once: pages
//   that were read are new after U(s⁻¹(x)), x being all that is left of a round, or of round 0 its
//   own part, s(t) − s(time of reading).
// * What the guest has written is not zero: after round 0 a page takes 1/(1 − z) of what the
//   average one takes.
// * Between the last round and the look before the freeze goes by a part of the setup. What was
//   written by then is sent before the pause in up to three catch-up rounds, where that takes 50 ms
//   at most at the rate of the fastest round (pages looked at, as the engine has it); a larger
//   rest, and what was written since, is sent in the pause. In post-copy it is missing,
//   and after a hybrid's rounds that converged as well, where last_set_limit does not allow it;
//   what is missing beside it, because chunks of huge pages are dropped whole, is
//   dropped_pages.h's. The pause of one that gives up is what it would be.
// * A fault is answered beside the push, with a page that need not be pushed any more: the guest
//   waits for f, the migration does not.
absl::StatusOr<Forecast> engine_forecast(const DirtyCurves& curves, const WorkingSetInput& input);

// Where a migration stands after a live round, and what was decided then.
struct RoundsSoFar {
    uint32_t rounds = 0;
    double elapsed_s = 0;  // since the start
    double pages = 0;      // looked at in all rounds
    double rest_pages = 0;
    uint32_t throttle_percent = 0;
    Decision decision;
};

// The same for a migration that is under way: what is still to come is modelled, what was is taken
// as it was. `curves` are those of its rounds. Errors: also for absurd numbers in `so_far`.
absl::StatusOr<Forecast> renewed_forecast(const DirtyCurves& curves, const WorkingSetInput& input,
                                          const RoundsSoFar& so_far);

// How much more a throttled guest is held back next, as the engine does: 20, 40, … 99 percent.
uint32_t next_throttle_percent(uint32_t percent);

}  // namespace godwit
