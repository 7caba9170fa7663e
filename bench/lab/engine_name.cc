#include "bench/lab/engine_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

namespace godwit {
namespace {

constexpr int kMaxPasses = 100;

struct Mode {
    std::string_view name;
    QemuMode value;
    bool in_groups;
};
constexpr std::array<Mode, 8> kModes{{{"precopy", QemuMode::kPrecopy, true},
                                      {"multifd", QemuMode::kMultifd, true},
                                      {"multifd-zlib", QemuMode::kMultifdZlib, false},
                                      {"multifd-zstd", QemuMode::kMultifdZstd, false},
                                      {"xbzrle", QemuMode::kXbzrle, false},
                                      {"auto-converge", QemuMode::kAutoConverge, false},
                                      {"postcopy", QemuMode::kPostcopy, true},
                                      {"preempt", QemuMode::kPreempt, true}}};

const std::map<std::string, std::vector<std::string>, std::less<>>& groups() {
    static const std::map<std::string, std::vector<std::string>, std::less<>> kGroups = [] {
        std::map<std::string, std::vector<std::string>, std::less<>> all;
        for (const Mode& mode : kModes) {
            if (!mode.in_groups) continue;
            all["qemu"].push_back(fmt::format("qemu-{}", mode.name));
            all["qemu-shared"].push_back(fmt::format("qemu-{}-shared", mode.name));
        }
        for (const char* strategy : {"precopy", "postcopy", "hybrid", "stop-and-copy"})
            all["godwit"].push_back(fmt::format("godwit-{}", strategy));
        all["all"] = {"floor"};
        for (const char* group : {"qemu", "qemu-shared", "godwit"})
            all["all"].insert(all["all"].end(), all[group].begin(), all[group].end());
        return all;
    }();
    return kGroups;
}

// What `virsh migrate` has: multifd is its --parallel.
constexpr std::array<Mode, 4> kLibvirtModes{{{"precopy", QemuMode::kPrecopy, true},
                                             {"parallel", QemuMode::kMultifd, true},
                                             {"auto-converge", QemuMode::kAutoConverge, false},
                                             {"postcopy", QemuMode::kPostcopy, true}}};

absl::Status unknown(std::string_view text) {
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no engine: floor, copy, stay, "
                    "qemu-{{precopy,multifd,multifd-zlib,multifd-zstd,xbzrle,auto-converge,"
                    "postcopy,preempt}}[-shared], with @PASSES behind a post-copy, "
                    "libvirt-{{precopy,parallel,auto-converge,postcopy}}, or godwit-STRATEGY",
                    text));
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

absl::StatusOr<EngineName> parse_qemu(std::string_view text, std::string_view rest) {
    EngineName name{.text = std::string(text), .kind = EngineKind::kQemu};
    bool with_passes = false;
    if (const size_t at = rest.find('@'); at != std::string_view::npos) {
        const std::string_view digits = rest.substr(at + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), name.passes);
        if (error != std::errc() || end != digits.data() + digits.size() || name.passes < 0 ||
            name.passes > kMaxPasses)
            return unknown(text);
        rest = rest.substr(0, at);
        with_passes = true;
    }
    if (rest.ends_with("-shared")) {
        name.shared = true;
        rest.remove_suffix(std::string_view("-shared").size());
    }
    const auto* mode = std::find_if(kModes.begin(), kModes.end(),
                                    [&](const Mode& entry) { return entry.name == rest; });
    if (mode == kModes.end()) return unknown(text);
    name.mode = mode->value;
    if (with_passes && !is_postcopy(name.mode)) return unknown(text);
    return name;
}

}  // namespace

absl::StatusOr<EngineName> parse_engine(std::string_view text) {
    if (text == "floor") return EngineName{.text = "floor"};
    if (text == "stay" || text == "stay-shared")
        return EngineName{
            .text = std::string(text), .kind = EngineKind::kStay, .shared = text == "stay-shared"};
    if (text == "copy") return EngineName{.text = "copy", .kind = EngineKind::kCopy};
    std::string_view rest = text;
    if (take_prefix(rest, "qemu-")) return parse_qemu(text, rest);
    if (take_prefix(rest, "libvirt-")) {
        for (const Mode& mode : kLibvirtModes)
            if (mode.name == rest)
                return EngineName{
                    .text = std::string(text), .kind = EngineKind::kLibvirt, .mode = mode.value};
        return unknown(text);
    }
    const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || c == '-'; };
    if (take_prefix(rest, "godwit-") && !rest.empty() && rest.front() != '-' &&
        std::all_of(rest.begin(), rest.end(), plain))
        return EngineName{
            .text = std::string(text), .kind = EngineKind::kGodwit, .strategy = std::string(rest)};
    return unknown(text);
}

absl::StatusOr<std::vector<EngineName>> parse_engines(std::string_view list) {
    std::vector<EngineName> engines;
    const auto add = [&](std::string_view text) -> absl::Status {
        GODWIT_ASSIGN_OR_RETURN(EngineName name, parse_engine(text));
        const bool known = std::any_of(engines.begin(), engines.end(),
                                       [&](const EngineName& e) { return e.text == name.text; });
        if (!known) engines.push_back(std::move(name));
        return absl::OkStatus();
    };
    while (!list.empty()) {
        const std::string_view word = list.substr(0, list.find(','));
        list.remove_prefix(std::min(list.size(), word.size() + 1));
        if (word.empty()) continue;
        if (const auto group = groups().find(word); group != groups().end()) {
            for (const std::string& member : group->second) GODWIT_RETURN_IF_ERROR(add(member));
        } else {
            GODWIT_RETURN_IF_ERROR(add(word));
        }
    }
    if (engines.empty()) return absl::InvalidArgumentError("no engine is named");
    return engines;
}

}  // namespace godwit
