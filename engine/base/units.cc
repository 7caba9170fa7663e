#include "engine/base/units.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace godwit {
namespace {

struct Quantity {
    double number;
    std::string_view suffix;
};

absl::StatusOr<Quantity> split(std::string_view text) {
    size_t end = 0;
    while (end < text.size() &&
           (std::isdigit(static_cast<unsigned char>(text[end])) || text[end] == '.'))
        ++end;
    const std::string digits(text.substr(0, end));
    char* stop = nullptr;
    const double number = std::strtod(digits.c_str(), &stop);
    if (end == 0 || stop != digits.c_str() + digits.size())
        return absl::InvalidArgumentError(fmt::format("\"{}\" does not start with a number", text));
    std::string_view suffix = text.substr(end);
    while (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
    return Quantity{number, suffix};
}

// The power of the base that a prefix letter stands for, -1 when it is none.
int prefix_power(char letter) {
    switch (std::toupper(static_cast<unsigned char>(letter))) {
        case 'K':
            return 1;
        case 'M':
            return 2;
        case 'G':
            return 3;
        case 'T':
            return 4;
        default:
            return -1;
    }
}

absl::StatusOr<Bytes> to_bytes(double value, std::string_view text) {
    if (!(value >= 0) || value > 9.2e18)
        return absl::InvalidArgumentError(fmt::format("\"{}\" is out of range", text));
    return static_cast<Bytes>(std::llround(value));
}

}  // namespace

absl::StatusOr<Bytes> parse_bytes(std::string_view text) {
    GODWIT_ASSIGN_OR_RETURN(Quantity quantity, split(text));
    std::string_view suffix = quantity.suffix;
    int power = 0;
    if (!suffix.empty() && prefix_power(suffix.front()) > 0) {
        power = prefix_power(suffix.front());
        suffix.remove_prefix(1);
        if (suffix == "iB") suffix.remove_prefix(2);
    }
    if (suffix == "B") suffix.remove_prefix(1);
    if (!suffix.empty())
        return absl::InvalidArgumentError(
            fmt::format("\"{}\" is no size; write it as 512, 64K, 256MiB or 1GiB", text));
    return to_bytes(quantity.number * std::pow(1024.0, power), text);
}

absl::StatusOr<std::chrono::nanoseconds> parse_duration(std::string_view text) {
    GODWIT_ASSIGN_OR_RETURN(Quantity quantity, split(text));
    static constexpr std::array<std::pair<std::string_view, double>, 6> kScales{
        {{"ns", 1.0}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
    for (const auto& [suffix, nanoseconds] : kScales)
        if (quantity.suffix == suffix && quantity.number * nanoseconds < 9e18)
            return std::chrono::nanoseconds(std::llround(quantity.number * nanoseconds));
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no duration; write it as 250us, 50ms, 1.5s or 2m", text));
}

absl::StatusOr<Bytes> parse_rate(std::string_view text) {
    std::string_view rest = text;
    if (rest.size() > 2 && rest.substr(rest.size() - 2) == "/s") rest.remove_suffix(2);
    GODWIT_ASSIGN_OR_RETURN(Quantity quantity, split(rest));
    std::string_view suffix = quantity.suffix;
    int power = 0;
    if (!suffix.empty() && prefix_power(suffix.front()) > 0) {
        power = prefix_power(suffix.front());
        suffix.remove_prefix(1);
    }
    if (suffix == "bit" || suffix == "b" || suffix == "bps")
        return to_bytes(quantity.number * std::pow(1000.0, power) / 8, text);
    if (suffix == "B") return to_bytes(quantity.number * std::pow(1000.0, power), text);
    if (suffix == "iB" && power > 0)
        return to_bytes(quantity.number * std::pow(1024.0, power), text);
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no rate; write it as 1Gbit, 100Mbit, 125MB/s or 64MiB/s", text));
}

std::string format_bytes(Bytes bytes) {
    static constexpr std::array<const char*, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    size_t power = 0;
    while (value >= 1024 && power + 1 < kNames.size()) {
        value /= 1024;
        ++power;
    }
    return power == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kNames[power]);
}

}  // namespace godwit
