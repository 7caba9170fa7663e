// The cases of the page transport: which guest, over which link, moved by whom, and what is asked
// of Godwit there.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/lab/series.h"
#include "bench/lab/target.h"

namespace godwit {

struct TransportCase {
    std::string name;
    std::string about;
    std::vector<GuestConfig> guests;  // without files and CPU; each with every engine
    Bytes link_rate = 0;              // bytes per second; 0: loopback
    bool prefers_tcg = false;         // unless --accel says otherwise
    std::string engines;              // as parse_engines() reads it
    std::vector<Target> targets;
};

const std::vector<TransportCase>& transport_cases();

// A comma-separated list of names; "all". Error: InvalidArgument, which names what there is.
absl::StatusOr<std::vector<TransportCase>> parse_cases(std::string_view list);

// Every engine with every guest. Where there are several guests the label has the guest's memory.
std::vector<Contender> contenders_of(const TransportCase& one,
                                     const std::vector<EngineName>& engines);

}  // namespace godwit
