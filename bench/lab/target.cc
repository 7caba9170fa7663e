#include "bench/lab/target.h"

#include <fmt/format.h>

namespace godwit {
namespace {

constexpr const char* kTime = "total_ms";

std::string sign(Bound kind) { return kind == Bound::kAtMost ? "at most" : "at least"; }

// "total_ms: 2.71 x qemu-multifd by godwit-precopy", read as ours over theirs or theirs over ours.
std::string fraction(const Target& target, const std::string& peer) {
    const std::string& theirs = peer.empty() ? target.peers.front() : peer;
    return target.kind == Bound::kAtMost ? fmt::format("{} / {}", target.ours, theirs)
                                         : fmt::format("{} / {}", theirs, target.ours);
}

}  // namespace

Judgement judge(const Target& target, const std::vector<Results>& all) {
    Judgement judgement;
    std::optional<double> fastest;
    for (const std::string& peer : target.peers) {
        const auto time = median_of(all, peer, kTime);
        if (!time || (fastest && *fastest <= *time)) continue;
        fastest = time;
        judgement.peer = peer;
    }
    const auto ours = median_of(all, target.ours, target.metric);
    const auto theirs = median_of(all, judgement.peer, target.metric);
    judgement.ratio = target.kind == Bound::kAtMost ? ratio(ours, theirs) : ratio(theirs, ours);
    for (const Results& results : all)
        if (results.engine == target.ours && !results.missing) judgement.failed = results.failed;
    return judgement;
}

std::string render_targets(const std::vector<Target>& targets, const std::vector<Results>& all) {
    std::string text;
    for (const Target& target : targets) {
        const Judgement judgement = judge(target, all);
        std::string verdict = judgement.met(target)                     ? "met"
                              : judgement.ratio || judgement.failed > 0 ? "missed"
                                                                        : "not measured";
        if (judgement.failed > 0) verdict += fmt::format(" ({} failed)", judgement.failed);
        text += fmt::format("{:<12} {:<48} {:>8}   {} {:g}: {}\n", target.metric,
                            fraction(target, judgement.peer), number_text(judgement.ratio),
                            sign(target.kind), target.bound, verdict);
    }
    return text;
}

}  // namespace godwit
