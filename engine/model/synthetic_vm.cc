#include "engine/model/synthetic_vm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace godwit {
namespace {

// Nine writes in ten go to the hot tenth of the set.
constexpr double kHotWrites = 0.9;
constexpr double kHotSet = 0.1;

absl::StatusOr<std::vector<WritePhase>> phases_of(std::string_view pattern, double set,
                                                  double writes, Dice& dice) {
    if (pattern == "mixed") pattern = kPatternNames[static_cast<size_t>(dice.roll() * 5)];
    if (pattern == "sequential")
        return std::vector<WritePhase>{{1, {{WritePattern::kSequential, set, writes}}}};
    if (pattern == "uniform")
        return std::vector<WritePhase>{{1, {{WritePattern::kUniform, set, writes}}}};
    if (pattern == "zipf")
        return std::vector<WritePhase>{{1, {{WritePattern::kZipf, set, writes}}}};
    const std::vector<WriteLoad> hot{
        {WritePattern::kUniform, set * kHotSet, writes * kHotWrites},
        {WritePattern::kUniform, set * (1 - kHotSet), writes * (1 - kHotWrites)}};
    if (pattern == "hot-set") return std::vector<WritePhase>{{1, hot}};
    if (pattern == "phases")
        return std::vector<WritePhase>{
            {dice.between(2, 20), hot},
            {dice.between(2, 20), {{WritePattern::kUniform, set * kHotSet, writes / 10}}}};
    return absl::InvalidArgumentError(fmt::format(
        "There is no pattern \"{}\"; take sequential, uniform, hot-set, zipf, phases or mixed",
        pattern));
}

}  // namespace

double Dice::roll() {
    state_ += 0x9E3779B97F4A7C15ULL;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

double Dice::log_between(double low, double high) {
    return low * std::exp(roll() * std::log(high / low));
}

absl::StatusOr<SimulatedVm> synthetic_vm(const SyntheticLoad& load, uint64_t seed) {
    GODWIT_RETURN_IF_ERROR(
        check_range("number of touched pages", load.touched_pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(check_range("variation", load.variation, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("pages of the set", load.set_pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(check_range("writes per second", load.writes_per_s, 0, kMostDirtyRate));
    Dice dice(seed);
    const auto varied = [&](double value) {
        return value * dice.between(1 - load.variation, 1 + load.variation);
    };
    SimulatedVm vm{.touched_pages = std::floor(varied(load.touched_pages))};
    const double set = std::min(varied(load.set_pages), vm.touched_pages);
    const double writes = varied(load.writes_per_s);
    GODWIT_ASSIGN_OR_RETURN(std::vector<WritePhase> phases,
                            phases_of(load.pattern, set, writes, dice));
    GODWIT_ASSIGN_OR_RETURN(vm.writer, synthetic_writer(std::move(phases), load.noise, seed));
    return vm;
}

}  // namespace godwit
