#include "bench/lab/transport_case.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr const char* kOurs = "godwit-precopy";
constexpr Bytes kMiB = Bytes{1} << 20;
constexpr Bytes kGiB = Bytes{1} << 30;
constexpr Bytes kTiB = Bytes{1} << 40;
constexpr Bytes kGigabit = 125'000'000;

GuestConfig idle_guest(Bytes memory, Bytes working_set, const char* content) {
    return {.memory = memory, .working_set = working_set, .idle = true, .content = content};
}

// P·D/R = 1/2: it writes half as fast as the link can send pages.
GuestConfig redirtying_guest(const std::string& fill) {
    return {.memory = kGiB,
            .working_set = 512 * kMiB,
            .writes_per_s = kGigabit / kPageBytes / 2,
            .content = fmt::format("fill={} change=64", fill)};
}

std::vector<TransportCase> sparse_cases() {
    // 80 MB.
    constexpr Bytes kTouched = 76 * kMiB;
    const std::vector<std::string> best{"qemu-precopy", "qemu-multifd"};
    const std::string one_tib = fmt::format("{} {}", kOurs, format_bytes(kTiB));
    const std::string four_gib = fmt::format("{} {}", kOurs, format_bytes(4 * kGiB));
    return {
        {.name = "sparse",
         .about = "4 GiB, of which 80 MB were ever touched",
         .guests = {idle_guest(4 * kGiB, kTouched, "fill=random")},
         .engines = "godwit-precopy,qemu-precopy,qemu-multifd,qemu-precopy-shared",
         .targets = {{.metric = "total_ms", .ours = kOurs, .peers = best, .bound = 1.0},
                     {.metric = "total_ms",
                      .ours = kOurs,
                      .peers = {"qemu-precopy-shared"},
                      .kind = Bound::kAtLeast,
                      .bound = 15}}},
        {.name = "sparse-16g",
         .about = "16 GiB, of which 80 MB were ever touched",
         .guests = {idle_guest(16 * kGiB, kTouched, "fill=random")},
         .engines = "godwit-precopy,qemu-precopy,qemu-multifd",
         .targets = {{.metric = "total_ms",
                      .ours = kOurs,
                      .peers = best,
                      .kind = Bound::kAtLeast,
                      .bound = 2.5}}},
        {.name = "sparse-1t",
         .about = "1 TiB beside 4 GiB, of either 200 MiB touched",
         .guests = {idle_guest(4 * kGiB, 200 * kMiB, "fill=random"),
                    idle_guest(kTiB, 200 * kMiB, "fill=random")},
         // KVM with a shadow MMU clears 2.5 GiB of tables of its own for a slot of 1 TiB: seconds
         // in one ioctl of the destination's QEMU, which would hide what is asked here.
         .prefers_tcg = true,
         .engines = kOurs,
         .targets = {{.metric = "total_ms", .ours = one_tib, .peers = {four_gib}, .bound = 1.5}}}};
}

std::vector<TransportCase> full_cases() {
    const std::vector<std::string> best{"qemu-precopy", "qemu-multifd"};
    return {
        {.name = "dense",
         .about = "4 GiB, of which 3 GiB are full of what cannot be compressed",
         .guests = {idle_guest(4 * kGiB, 3 * kGiB, "fill=random")},
         .engines = "godwit-precopy,qemu-precopy,qemu-multifd,copy",
         .targets = {{.metric = "total_ms",
                      .ours = kOurs,
                      .peers = best,
                      .kind = Bound::kAtLeast,
                      .bound = 2.5},
                     {.metric = "cpu_s", .ours = kOurs, .peers = best, .bound = 0.5},
                     {.metric = "total_ms",
                      .ours = kOurs,
                      .peers = {"copy"},
                      .kind = Bound::kAtLeast,
                      .bound = 0.7}}},
        {.name = "text-1g",
         .about = "4 GiB, of which 2 GiB are prose, over 1 Gb/s",
         .guests = {idle_guest(4 * kGiB, 2 * kGiB, "fill=text")},
         .link_rate = kGigabit,
         .engines = "godwit-precopy,qemu-precopy,qemu-multifd,qemu-multifd-zstd",
         .targets = {
             {.metric = "total_ms", .ours = kOurs, .peers = best, .bound = 0.5},
             {.metric = "total_ms", .ours = kOurs, .peers = {"qemu-multifd-zstd"}, .bound = 0.8},
             {.metric = "cpu_s", .ours = kOurs, .peers = {"qemu-multifd-zstd"}, .bound = 0.5}}}};
}

TransportCase redirty_case(const std::string& name, const std::string& fill) {
    return {.name = name,
            .about = fmt::format("1 GiB; 512 MiB of {} are rewritten in small parts, half as fast "
                                 "as the link sends (r = 0.5), over 1 Gb/s",
                                 fill == "text" ? "prose" : "random bytes"),
            .guests = {redirtying_guest(fill)},
            .link_rate = kGigabit,
            .engines = "godwit-precopy,qemu-xbzrle,qemu-precopy",
            .targets = {
                {.metric = "link_bytes", .ours = kOurs, .peers = {"qemu-xbzrle"}, .bound = 0.5}}};
}

std::vector<TransportCase> all_cases() {
    std::vector<TransportCase> all = sparse_cases();
    for (TransportCase& one : full_cases()) all.push_back(std::move(one));
    all.push_back(redirty_case("redirty-1g", "text"));
    all.push_back(redirty_case("redirty-random-1g", "random"));
    return all;
}

}  // namespace

const std::vector<TransportCase>& transport_cases() {
    static const std::vector<TransportCase> kAll = all_cases();
    return kAll;
}

absl::StatusOr<std::vector<TransportCase>> parse_cases(std::string_view list) {
    if (list == "all") return transport_cases();
    std::vector<TransportCase> cases;
    while (!list.empty()) {
        const std::string_view word = list.substr(0, list.find(','));
        list.remove_prefix(std::min(list.size(), word.size() + 1));
        if (word.empty()) continue;
        const auto& all = transport_cases();
        const auto found = std::find_if(all.begin(), all.end(),
                                        [&](const TransportCase& c) { return c.name == word; });
        if (found == all.end()) {
            std::string names;
            for (const TransportCase& one : all) names += " " + one.name;
            return absl::InvalidArgumentError(
                fmt::format("\"{}\" is no case; there are:{}, all", word, names));
        }
        cases.push_back(*found);
    }
    if (cases.empty()) return absl::InvalidArgumentError("no case is named");
    return cases;
}

std::vector<Contender> contenders_of(const TransportCase& one,
                                     const std::vector<EngineName>& engines) {
    std::vector<Contender> contenders;
    for (const EngineName& engine : engines)
        for (const GuestConfig& guest : one.guests)
            contenders.push_back(
                {.label = one.guests.size() == 1
                              ? engine.text
                              : fmt::format("{} {}", engine.text, format_bytes(guest.memory)),
                 .engine = engine,
                 .guest = guest});
    return contenders;
}

}  // namespace godwit
