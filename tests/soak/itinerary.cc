#include "tests/soak/itinerary.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr const char* kStrategies[] = {"hybrid", "precopy", "postcopy", "stop-and-copy"};
constexpr const char* kKvmTrackers[] = {"auto", "uffd-wp", "kvm-dirty-log"};
constexpr const char* kTcgTrackers[] = {"auto", "uffd-wp"};
constexpr const char* kStreams[] = {"auto", "1", "2", "4"};
constexpr const char* kCodecs[] = {"auto", "off", "lz4", "zstd"};
constexpr const char* kDeltaCaches[] = {"0", "0", "32MiB"};
// The slowest takes a working set in some seconds, and pre-copy of the fastest writer fails by it.
constexpr const char* kBandwidths[] = {"unlimited", "200MiB/s", "48MiB/s", "8MiB/s"};
constexpr const char* kPrecopyEnds[] = {"fail", "stop-and-copy", "postcopy"};
constexpr const char* kHybridEnds[] = {"default", "stop-and-copy"};
// Most migrations of a soak take a second or less.
constexpr int64_t kSoonMs = 300;
constexpr int64_t kLateMs = 2'000;

// Where they do not, --verify needs the hashes of what was sent.
bool all_pages_come_first(const Trip& trip) {
    const bool falls_back = trip.flags.back() == "postcopy";
    return trip.strategy() == "stop-and-copy" || (trip.strategy() == "precopy" && !falls_back);
}

}  // namespace

bool Trip::is_cancelled() const {
    return std::any_of(meddling.begin(), meddling.end(),
                       [](const Meddling& one) { return one.command == "cancel"; });
}

// Not by a distribution of the library: a seed means the same with any.
int64_t Itinerary::draw(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random_() % static_cast<uint64_t>(most - least + 1));
}

void Itinerary::choose_what_follows(Trip& trip) {
    std::string end;
    if (trip.strategy() == "hybrid") end = one_of(kHybridEnds);
    if (trip.strategy() == "precopy") {
        const bool throttles = kvm_ && draw(0, 3) == 0;
        end = throttles ? "throttle" : one_of(kPrecopyEnds);
        // A throttle may not be enough where the bandwidth is changed meanwhile.
        trip.may_fail = throttles || end == "fail";
    }
    if (!end.empty()) trip.flags.insert(trip.flags.end(), {"--on-no-converge", end});
}

void Itinerary::meddle(Trip& trip) {
    const auto add = [&](const char* command, std::vector<std::string> flags = {}) {
        const Duration after =
            std::chrono::milliseconds(draw(0, draw(0, 1) == 0 ? kSoonMs : kLateMs));
        trip.meddling.push_back({after, command, std::move(flags)});
    };
    for (int64_t limits = draw(0, 2); limits > 0; --limits)
        add("limit", {"--bandwidth", one_of(kBandwidths)});
    const int64_t kind = draw(0, 9);
    if (kind < 3) add("cancel");
    if (kind == 3) add("switch");
}

Trip Itinerary::next() {
    Trip trip;
    trip.flags = {"--strategy", one_of(kStrategies)};
    const char* tracker = kvm_ ? one_of(kKvmTrackers) : one_of(kTcgTrackers);
    trip.flags.insert(trip.flags.end(), {"--tracker", tracker, "--streams", one_of(kStreams),
                                         "--compress", one_of(kCodecs), "--delta-cache",
                                         one_of(kDeltaCaches), "--bandwidth", one_of(kBandwidths),
                                         "--downtime-limit", fmt::format("{}ms", draw(50, 500))});
    choose_what_follows(trip);
    if (draw(0, 3) == 0 && all_pages_come_first(trip)) trip.flags.emplace_back("--no-page-hashes");
    if (draw(0, 2) > 0) meddle(trip);
    return trip;
}

}  // namespace godwit
