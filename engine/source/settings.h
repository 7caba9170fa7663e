// What one outgoing migration was asked to do.
#pragma once

#include <string>

#include "engine/base/clock.h"
#include "engine/base/units.h"
#include "engine/model/convergence.h"
#include "transport/control/peer.h"

namespace godwit {

struct MigrationSettings {
    std::string id;
    HostPort destination;
    std::string strategy = "precopy";
    std::string tracker = "auto";  // or "uffd-wp", "kvm-dirty-log"
    ConvergenceLimits limits;
    Bytes bandwidth_bytes_per_s = 0;  // 0: unlimited
    uint16_t streams = 2;
    bool verify = false;
    // Off only in the test that shows why it is needed: pages that a disk may still be writing are
    // then not read again after the drain.
    bool track_unsettled = true;
    // A freeze that takes longer is undone by the guard. Far above any downtime that anybody wants:
    // the guard is for agents that hang, not for slow links.
    Duration freeze_limit = std::chrono::seconds(10);
};

inline constexpr uint16_t kMaxDataStreams = 16;
inline constexpr uint32_t kMaxRounds = 1000;

}  // namespace godwit
