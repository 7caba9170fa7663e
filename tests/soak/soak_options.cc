#include "tests/soak/soak_options.h"

#include <absl/strings/numbers.h>

#include <random>

namespace godwit {
namespace {

constexpr const char* kAbout =
    "Three guests under load go there and back between two agents, by random strategies, trackers, "
    "codecs\nand bandwidths; migrations are limited, switched and cancelled while they run. Every "
    "guest testifies\nafter every trip. Memory, descriptors and threads of the agents must stay "
    "as they are.\n\nExample:\n  godwit-soak --for 10m --seed 7\n\n"
    "Exit codes: 0 nothing was found, 1 something was, 2 usage, 130 interrupted.";
constexpr uint64_t kMostHours = 24 * 365;

}  // namespace

absl::StatusOr<Duration> parse_long_duration(const std::string& text) {
    uint64_t hours = 0;
    if (!text.empty() && text.back() == 'h') {
        if (!absl::SimpleAtoi(text.substr(0, text.size() - 1), &hours) || hours == 0 ||
            hours > kMostHours)
            return absl::InvalidArgumentError(text + ": as 1h, at most a year");
        return Duration(std::chrono::hours(hours));
    }
    GODWIT_ASSIGN_OR_RETURN(const Duration duration, parse_duration(text));
    if (duration <= Duration::zero()) return absl::InvalidArgumentError(text + ": nothing at all");
    return duration;
}

std::optional<int> parse_soak_options(int argc, char** argv, SoakOptions& options) {
    CLI::App app(kAbout);
    options.lab.program = "godwit-soak";
    options.seed = std::random_device{}();
    app.add_option_function<std::string>(
           "--for",
           [&options](const std::string& text) {
               const auto length = parse_long_duration(text);
               if (!length.ok())
                   throw CLI::ValidationError("--for", std::string(length.status().message()));
               options.length = *length;
           },
           "How long, as 90s, 10m or 1h")
        ->type_name("TIME")
        ->default_str("1h");
    app.add_option("--moves", options.moves, "End after so many trips, if that is sooner");
    app.add_option("--seed", options.seed, "Of all choices; printed when it is drawn");
    app.add_option("--accel", options.lab.accel)
        ->check(CLI::IsMember({"auto", "kvm", "tcg"}))
        ->capture_default_str();
    app.add_option("--qemu", options.lab.qemu, "The QEMU of the guests")->capture_default_str();
    app.add_option("--scratch", options.lab.scratch, "A directory for what is needed meanwhile")
        ->capture_default_str();
    app.add_option("--keep", options.keep,
                   "A directory for the agents' logs and the last reports when something is found")
        ->take_last();
    return parse_command_line(app, argc, argv);
}

}  // namespace godwit
