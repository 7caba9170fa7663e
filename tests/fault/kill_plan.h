// What befalls one migration, and when: drawn from a seed. Pure: no clock, no I/O.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/clock.h"
#include "engine/base/units.h"

namespace godwit::testing {

enum class Fault {
    kKill,         // SIGKILL; an agent comes back later
    kStop,         // SIGSTOP, and SIGCONT later
    kRestart,      // ended in order; it comes back later
    kOutOfMemory,  // the kernel kills it in its cgroup; an agent comes back later
    kClock,        // killed, and its successor's monotonic clock shows another time
    kCut,          // the cable is out of one host
    kHalfOpen,     // what one host sends is lost
    kCrowdedLink,  // others use all of it
    kFullDisk,     // of the state directory
    kFullRam,      // of the mount of guests' RAM
};
enum class Victim {
    kSourceAgent,
    kDestinationAgent,
    kGuard,
    kSourceQemu,
    kDestinationQemu,
    kSourceLibvirtd,
    kDestinationLibvirtd,
};

// What there is to do to whom. For what befalls a link or a disk an agent stands for its host.
struct KillKind {
    Fault fault;
    Victim victim;
    bool operator==(const KillKind&) const = default;
};
inline constexpr std::array kKillKinds = {
    KillKind{Fault::kKill, Victim::kSourceAgent},
    KillKind{Fault::kKill, Victim::kDestinationAgent},
    KillKind{Fault::kKill, Victim::kGuard},
    KillKind{Fault::kKill, Victim::kSourceQemu},
    KillKind{Fault::kKill, Victim::kDestinationQemu},
    KillKind{Fault::kStop, Victim::kSourceAgent},
    KillKind{Fault::kStop, Victim::kDestinationAgent},
    KillKind{Fault::kStop, Victim::kGuard},
    KillKind{Fault::kStop, Victim::kSourceQemu},
    KillKind{Fault::kStop, Victim::kDestinationQemu},
    KillKind{Fault::kOutOfMemory, Victim::kSourceAgent},
    KillKind{Fault::kOutOfMemory, Victim::kDestinationAgent},
    KillKind{Fault::kOutOfMemory, Victim::kSourceQemu},
    KillKind{Fault::kOutOfMemory, Victim::kDestinationQemu},
    KillKind{Fault::kClock, Victim::kSourceAgent},
    KillKind{Fault::kClock, Victim::kDestinationAgent},
    KillKind{Fault::kCut, Victim::kSourceAgent},
    KillKind{Fault::kCut, Victim::kDestinationAgent},
    KillKind{Fault::kHalfOpen, Victim::kSourceAgent},
    KillKind{Fault::kHalfOpen, Victim::kDestinationAgent},
    KillKind{Fault::kCrowdedLink, Victim::kSourceAgent},
    KillKind{Fault::kFullDisk, Victim::kSourceAgent},
    KillKind{Fault::kFullDisk, Victim::kDestinationAgent},
    KillKind{Fault::kFullRam, Victim::kDestinationAgent},
};
// Between two hosts with a libvirt each. Its own come first.
inline constexpr std::array kLibvirtKillKinds = {
    KillKind{Fault::kKill, Victim::kSourceLibvirtd},
    KillKind{Fault::kKill, Victim::kDestinationLibvirtd},
    KillKind{Fault::kStop, Victim::kSourceLibvirtd},
    KillKind{Fault::kStop, Victim::kDestinationLibvirtd},
    KillKind{Fault::kRestart, Victim::kSourceLibvirtd},
    KillKind{Fault::kRestart, Victim::kDestinationLibvirtd},
    KillKind{Fault::kKill, Victim::kSourceAgent},
    KillKind{Fault::kKill, Victim::kDestinationAgent},
    KillKind{Fault::kKill, Victim::kGuard},
    KillKind{Fault::kKill, Victim::kSourceQemu},
    KillKind{Fault::kKill, Victim::kDestinationQemu},
};

enum class Moment {
    kAnywhere,   // after a part of the time that an undisturbed migration takes
    kNearPause,  // so long after the freeze was noted in the source's journal
    kAtStep,     // an agent is held there
};

struct KillPlan {
    uint64_t seed = 0;
    std::string strategy;
    std::string tracker;
    bool verify = false;
    KillKind kind{};
    Moment moment = Moment::kAnywhere;
    double part = 0;             // kAnywhere
    Duration after{};            // kNearPause
    std::string_view step;       // kAtStep
    bool step_at_source = true;  // which agent is held
    Duration length{};           // how long an agent is away, a process stopped, a link cut …
    Duration clock_step{};       // kClock; negative: back to the host's boot, or nearly
    Bytes room = 0;              // kFullRam: what there is left
    bool agent_too = false;      // a libvirtd: its host's agent is killed while it is away

    bool operator==(const KillPlan&) const = default;
};

// The same seed: the same plan, with any library and on any machine.
KillPlan draw_plan(uint64_t seed, std::span<const KillKind> kinds = kKillKinds);
// The first seed from `seed` on whose plan is of this kind.
uint64_t next_seed_of(uint64_t seed, KillKind kind, std::span<const KillKind> kinds = kKillKinds);
// In words, with how to do it again.
std::string describe(const KillPlan& plan);
// "kill source-agent".
std::string describe(KillKind kind);

}  // namespace godwit::testing
