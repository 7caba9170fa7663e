#include "bench/lab/fleet_engine.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>

#include <algorithm>

#include "bench/lab/guest_checks.h"

namespace godwit {
namespace {

constexpr int kFromHere = 0;
constexpr int kToThere = 1;
constexpr uint64_t kTurns = 5;

}  // namespace

FleetEngine::FleetEngine(const EngineName& name, const LabSetup& setup)
    : name_(name), setup_(setup) {
    for (const GuestConfig& guest : setup.fleet) {
        LabSetup one = setup;
        one.guest = guest;
        guests_.push_back(std::make_unique<GodwitEngine>(name.strategy, one));
    }
}

absl::Status FleetEngine::start_guest() {
    for (const auto& guest : guests_) {
        GODWIT_RETURN_IF_ERROR(guest->start_guest());
        GODWIT_RETURN_IF_ERROR(well_before(*guest));
    }
    return absl::OkStatus();
}

std::vector<std::string> FleetEngine::migrate_words() const {
    std::vector<std::string> names;
    for (const auto& guest : guests_) names.push_back(guest->vm());
    const auto limit =
        std::chrono::duration_cast<std::chrono::microseconds>(setup_.downtime_limit).count();
    std::vector<std::string> words{"migrate",
                                   "--vms",
                                   absl::StrJoin(names, ","),
                                   "--to",
                                   setup_.agents->address(kToThere),
                                   "--schedule",
                                   name_.schedule,
                                   "--strategy",
                                   name_.strategy,
                                   "--tracker",
                                   setup_.tracker,
                                   "--json",
                                   "--downtime-limit",
                                   fmt::format("{}us", limit)};
    if (setup_.bandwidth > 0)
        words.insert(words.end(), {"--bandwidth", fmt::format("{}B/s", setup_.bandwidth)});
    words.insert(words.end(), setup_.migrate_flags.begin(), setup_.migrate_flags.end());
    return words;
}

absl::StatusOr<Metrics> FleetEngine::move() {
    const MonotonicTime begun = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome moved,
                            setup_.agents->run(kFromHere, migrate_words(), setup_.limit));
    const double command_ms = to_ms(Clock::system().now() - begun);
    told_ = nlohmann::json::parse(moved.out, nullptr, false);
    if (moved.exit_code != 0 || !told_.is_object()) return failed_command("migrate --vms", moved);
    for (const auto& guest : guests_) guest->note_moved();
    return Metrics{{"command_ms", command_ms}};
}

absl::StatusOr<Metrics> FleetEngine::details() {
    for (const auto& guest : guests_) {
        GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, guest->mailbox());
        GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
        GODWIT_RETURN_IF_ERROR(annotate(
            goes_on(*guest, mailbox.vcpus[0].tick, kTurns, setup_.cancel_fd), guest->vm()));
    }
    return fleet_metrics(told_, to_ms(setup_.downtime_limit));
}

Metrics fleet_metrics(const nlohmann::json& told, double limit_ms) {
    const auto number = [&](const nlohmann::json& of, const char* key) {
        const auto found = of.find(key);
        return found != of.end() && found->is_number() ? found->get<double>() : 0;
    };
    Metrics metrics{{"total_ms", number(told, "sampling_ms") + number(told, "total_ms")}};
    for (const char* key : {"sampling_ms", "expected_ms", "outage_ms", "at_a_time"})
        if (told.contains(key) && told[key].is_number()) metrics[key] = told[key].get<double>();
    double longest = 0;
    double sum = 0;
    double missed = 0;
    double bytes = 0;
    for (const nlohmann::json& guest : told.value("guests", nlohmann::json::array())) {
        const bool arrived = guest.value("exit_code", -1) == 0;
        const double downtime_ms = number(guest, "downtime_ms");
        longest = std::max(longest, downtime_ms);
        sum += downtime_ms;
        if (!arrived || downtime_ms > limit_ms) ++missed;
        if (const auto report = guest.find("report"); report != guest.end() && report->is_object())
            bytes += number(*report, "wire_bytes");
    }
    metrics["downtime_ms"] = longest;
    metrics["downtime_sum_ms"] = sum;
    metrics["limits_missed"] = missed;
    metrics["wire_bytes"] = bytes;
    return metrics;
}

}  // namespace godwit
