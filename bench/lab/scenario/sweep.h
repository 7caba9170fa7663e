// A sweep: a mapping in which some values are lists stands for one mapping for each combination.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <utility>
#include <vector>

namespace godwit {

struct SweepPoint {
    YAML::Node values;  // scalars and mappings only; nodes keep the lines that they were read from
    std::vector<std::pair<std::string, std::string>> swept;  // key, value: of those that were lists
};

// In the order of the keys, the last one fastest. A mapping without lists is one point; so is what
// is no mapping, or has more keys than any that means something. At most kMaxSweepPoints: the rest
// is left out.
inline constexpr size_t kMaxSweepPoints = 1000;
inline constexpr size_t kMaxSweepKeys = 64;
std::vector<SweepPoint> sweep(const YAML::Node& mapping);

// "memory=4GiB,rate=1000": what tells a point from its neighbours; empty where nothing was swept.
std::string sweep_name(const SweepPoint& point);

}  // namespace godwit
