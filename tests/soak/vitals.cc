#include "tests/soak/vitals.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

namespace godwit {
namespace {

template <typename Member>
auto median(std::span<const Vitals> rests, Member Vitals::*member) {
    std::vector<Member> values;
    values.reserve(rests.size());
    for (const Vitals& rest : rests) values.push_back(rest.*member);
    const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

Vitals median(std::span<const Vitals> rests) {
    return {.memory = median(rests, &Vitals::memory),
            .mappings = median(rests, &Vitals::mappings),
            .descriptors = median(rests, &Vitals::descriptors),
            .threads = median(rests, &Vitals::threads)};
}

}  // namespace

absl::StatusOr<Vitals> vitals_of(pid_t pid) {
    Vitals vitals;
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    if (!status) return absl::NotFoundError(fmt::format("process {} is gone", pid));
    uint64_t anonymous_kib = 0;
    bool has_memory = false;
    for (std::string word; status >> word;) {
        if (word == "RssAnon:") has_memory = static_cast<bool>(status >> anonymous_kib);
        if (word == "Threads:") status >> vitals.threads;
    }
    if (!has_memory || vitals.threads == 0)
        return absl::InternalError(fmt::format("/proc/{}/status says nothing of use", pid));
    vitals.memory = anonymous_kib << 10;
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    vitals.mappings = static_cast<int>(
        std::count(std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>(), '\n'));
    std::error_code error;
    const std::filesystem::directory_iterator descriptors(fmt::format("/proc/{}/fd", pid), error);
    if (error) return absl::NotFoundError(fmt::format("process {} is gone", pid));
    vitals.descriptors = static_cast<int>(std::distance(begin(descriptors), end(descriptors)));
    return vitals;
}

absl::StatusOr<Flatness> judge(const std::vector<Vitals>& rests, const FlatnessBounds& bounds) {
    if (rests.size() < kLeastRests)
        return absl::FailedPreconditionError(
            fmt::format("{} looks at the agents are too few to tell a leak ({} would do)",
                        rests.size(), kLeastRests));
    const std::span<const Vitals> all(rests);
    const size_t quarter = all.size() / 4;
    Flatness flatness{.before = median(all.subspan(quarter, quarter)),
                      .after = median(all.last(quarter))};
    const Vitals& before = flatness.before;
    const Vitals& after = flatness.after;
    if (after.memory > before.memory + bounds.memory)
        flatness.leaks.push_back(fmt::format("memory: {} after the warm-up, {} at the end",
                                             format_bytes(before.memory),
                                             format_bytes(after.memory)));
    const auto compare = [&](const char* what, int Vitals::*member, int room) {
        if (after.*member > before.*member + room)
            flatness.leaks.push_back(fmt::format("{}: {} after the warm-up, {} at the end", what,
                                                 before.*member, after.*member));
    };
    compare("mappings", &Vitals::mappings, bounds.mappings);
    compare("descriptors", &Vitals::descriptors, bounds.descriptors);
    compare("threads", &Vitals::threads, bounds.threads);
    return flatness;
}

}  // namespace godwit
