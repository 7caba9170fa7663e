#include "engine/source/settings.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace godwit {
namespace {

constexpr std::array kStrategies = {
    std::pair<Strategy, std::string_view>{Strategy::kStopAndCopy, "stop-and-copy"},
    std::pair<Strategy, std::string_view>{Strategy::kPrecopy, "precopy"},
    std::pair<Strategy, std::string_view>{Strategy::kPostcopy, "postcopy"},
    std::pair<Strategy, std::string_view>{Strategy::kHybrid, "hybrid"},
};

}  // namespace

bool may_use_postcopy(const MigrationSettings& settings) {
    switch (settings.limits.strategy) {
        case Strategy::kPostcopy:
        case Strategy::kHybrid:
            return true;
        case Strategy::kPrecopy:
            return settings.limits.on_no_converge == NoConverge::kPostcopy ||
                   settings.finish_by > Duration::zero();
        case Strategy::kStopAndCopy:
            break;
    }
    return false;
}

bool may_throttle(const MigrationSettings& settings) {
    const Strategy strategy = settings.limits.strategy;
    return settings.limits.on_no_converge == NoConverge::kThrottle &&
           (strategy == Strategy::kPrecopy || strategy == Strategy::kHybrid);
}

std::string held_text(const std::string& id) {
    return fmt::format("ready to switch over, and held: godwit proceed {}", id);
}

std::string limit_text(Bytes bytes_per_second) {
    if (bytes_per_second == 0) return "the bandwidth is not limited";
    return fmt::format("the bandwidth is limited to {}/s", format_bytes(bytes_per_second));
}

absl::Status check_bandwidth(Bytes bytes_per_second) {
    if (bytes_per_second == 0 || bytes_per_second >= kLeastBandwidth) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("bandwidth_bytes_per_s is {}; it must be at least {}, or 0 for no limit",
                    bytes_per_second, kLeastBandwidth));
}

std::string_view compression_name(Compression compression) {
    switch (compression) {
        case Compression::kOff:
            return "off";
        case Compression::kAuto:
            return "auto";
        case Compression::kLz4:
            return "lz4";
        case Compression::kZstd:
            return "zstd";
    }
    return "unknown";
}

absl::StatusOr<Compression> parse_compression(std::string_view name) {
    for (const Compression compression :
         {Compression::kOff, Compression::kAuto, Compression::kLz4, Compression::kZstd})
        if (compression_name(compression) == name) return compression;
    return absl::InvalidArgumentError(
        fmt::format("compression \"{}\" is unknown; there are auto, off, lz4 and zstd", name));
}

std::string_view strategy_name(Strategy strategy) {
    for (const auto& [known, name] : kStrategies)
        if (known == strategy) return name;
    return "unknown";
}

absl::StatusOr<Strategy> parse_strategy(std::string_view name) {
    for (const auto& [strategy, known] : kStrategies)
        if (known == name) return strategy;
    return absl::InvalidArgumentError(fmt::format(
        "strategy \"{}\" is unknown; there are stop-and-copy, precopy, postcopy and hybrid", name));
}

}  // namespace godwit
