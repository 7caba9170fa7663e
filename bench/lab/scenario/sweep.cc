#include "bench/lab/scenario/sweep.h"

#include <fmt/format.h>

namespace godwit {
namespace {

// Every point so far with this key, for each of its values.
std::vector<SweepPoint> with_key(const std::vector<SweepPoint>& points, const YAML::Node& key,
                                 const YAML::Node& value) {
    std::vector<YAML::Node> choices;
    if (value.IsSequence())
        for (const auto& item : value) choices.push_back(item);
    else
        choices.push_back(value);
    std::vector<SweepPoint> all;
    for (const SweepPoint& point : points)
        for (const YAML::Node& choice : choices) {
            if (all.size() >= kMaxSweepPoints) return all;
            // A node is a reference: a copy, or the points would share their values.
            SweepPoint next{YAML::Node(YAML::NodeType::Map), point.swept};
            for (const auto& entry : point.values)
                next.values.force_insert(entry.first, entry.second);
            next.values.force_insert(key, choice);
            if (value.IsSequence() && key.IsScalar())
                next.swept.emplace_back(key.Scalar(), choice.IsScalar() ? choice.Scalar() : "?");
            all.push_back(std::move(next));
        }
    return all;
}

}  // namespace

std::vector<SweepPoint> sweep(const YAML::Node& mapping) {
    if (!mapping.IsMap() || mapping.size() > kMaxSweepKeys) return {{mapping, {}}};
    std::vector<SweepPoint> points{{YAML::Node(YAML::NodeType::Map), {}}};
    for (const auto& entry : mapping) points = with_key(points, entry.first, entry.second);
    return points;
}

std::string sweep_name(const SweepPoint& point) {
    std::string name;
    for (const auto& [key, value] : point.swept)
        name += fmt::format("{}{}={}", name.empty() ? "" : ",", key, value);
    return name;
}

}  // namespace godwit
