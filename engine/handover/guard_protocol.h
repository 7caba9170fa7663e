// What agent and guard say to each other: one packet per message on a SOCK_SEQPACKET pair.
#pragma once

#include <cstdint>

namespace godwit {

enum class GuardMessageKind : uint32_t {
    kReady = 1,    // guard -> agent: connected to the guest
    kArm = 2,      // agent -> guard: deadline_ns holds
    kArmed = 3,    // guard -> agent
    kDismiss = 4,  // agent -> guard: exit
    kBegin = 5,    // agent -> guard: connect to the guest; run holds
};

struct GuardMessage {
    GuardMessageKind kind = GuardMessageKind::kReady;
    uint32_t run = 0;         // whether the guest runs
    int64_t deadline_ns = 0;  // CLOCK_MONOTONIC
};

// The descriptor number that the guard finds its socket at.
inline constexpr int kGuardSocketFd = 3;

}  // namespace godwit
