#include "engine/handover/phases.h"

#include <algorithm>
#include <array>

namespace godwit {
namespace {

using S = SourcePhase;
using D = DestinationPhase;
using F = FrameKind;

struct SourceStep {
    S from;
    F frame;
    S to;
};

constexpr std::array kSourceSteps = {
    SourceStep{S::kRounds, F::kMarkerAck, S::kRounds},
    SourceStep{S::kRounds, F::kDamaged, S::kRounds},
    SourceStep{S::kRounds, F::kAbort, S::kOver},
    SourceStep{S::kRounds, F::kLoadFailed, S::kOver},
    SourceStep{S::kArming, F::kPostcopyReady, S::kArmed},
    SourceStep{S::kArming, F::kAbort, S::kOver},
    SourceStep{S::kArming, F::kLoadFailed, S::kOver},
    SourceStep{S::kArmed, F::kMarkerAck, S::kArmed},
    SourceStep{S::kArmed, F::kDamaged, S::kArmed},
    SourceStep{S::kArmed, F::kAbort, S::kOver},
    SourceStep{S::kArmed, F::kLoadFailed, S::kOver},
    SourceStep{S::kSaving, F::kLoaded, S::kLoaded},
    SourceStep{S::kSaving, F::kAbort, S::kOver},
    SourceStep{S::kSaving, F::kLoadFailed, S::kOver},
    SourceStep{S::kLoaded, F::kVerifyResult, S::kLoaded},
    SourceStep{S::kLoaded, F::kVerifyPagesResult, S::kLoaded},
    SourceStep{S::kLoaded, F::kAbort, S::kOver},
    SourceStep{S::kLoaded, F::kLoadFailed, S::kOver},
    SourceStep{S::kCommitted, F::kResumed, S::kDone},
    SourceStep{S::kCommitted, F::kRefused, S::kOver},
    // Sent before COMMIT arrived there: its answer is still to come.
    SourceStep{S::kCommitted, F::kLoadFailed, S::kCommitted},
    SourceStep{S::kCommitted, F::kAbort, S::kCommitted},
    SourceStep{S::kSavingServed, F::kPageRequest, S::kSavingServed},
    SourceStep{S::kSavingServed, F::kLoaded, S::kLoadedServed},
    SourceStep{S::kSavingServed, F::kAbort, S::kOver},
    SourceStep{S::kSavingServed, F::kLoadFailed, S::kOver},
    SourceStep{S::kLoadedServed, F::kPageRequest, S::kLoadedServed},
    SourceStep{S::kLoadedServed, F::kAbort, S::kOver},
    SourceStep{S::kLoadedServed, F::kLoadFailed, S::kOver},
    SourceStep{S::kCommittedServed, F::kPageRequest, S::kCommittedServed},
    SourceStep{S::kCommittedServed, F::kResumed, S::kDraining},
    SourceStep{S::kCommittedServed, F::kRefused, S::kOver},
    SourceStep{S::kCommittedServed, F::kLoadFailed, S::kCommittedServed},
    SourceStep{S::kCommittedServed, F::kAbort, S::kCommittedServed},
    SourceStep{S::kCommittedServed, F::kMissing, S::kCommittedServed},
    SourceStep{S::kCommittedServed, F::kMissingEnd, S::kCommittedServed},
    SourceStep{S::kDraining, F::kPageRequest, S::kDraining},
    SourceStep{S::kDraining, F::kMissing, S::kDraining},
    SourceStep{S::kDraining, F::kMissingEnd, S::kDraining},
    SourceStep{S::kDraining, F::kDrained, S::kDrained},
    SourceStep{S::kDraining, F::kGuestGone, S::kOver},
    SourceStep{S::kDraining, F::kAbort, S::kDraining},
    // What other threads of the destination said before they knew.
    SourceStep{S::kOver, F::kMarkerAck, S::kOver},
    SourceStep{S::kOver, F::kDamaged, S::kOver},
    SourceStep{S::kOver, F::kPostcopyReady, S::kOver},
    SourceStep{S::kOver, F::kPageRequest, S::kOver},
    SourceStep{S::kOver, F::kLoadFailed, S::kOver},
    SourceStep{S::kOver, F::kAbort, S::kOver},
};

struct DestinationStep {
    D from;
    StreamKind stream;
    F frame;
    D to;
};

constexpr auto kData = StreamKind::kData;
constexpr auto kUrgent = StreamKind::kUrgent;

constexpr std::array kDestinationSteps = {
    DestinationStep{D::kLive, kData, F::kPages, D::kLive},
    DestinationStep{D::kLive, kData, F::kMarker, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kPostcopyBegin, D::kArming},
    DestinationStep{D::kLive, kUrgent, F::kDeviceState, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kDeviceStateEnd, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kVerifyBegin, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kVerifyChunks, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kVerifyPages, D::kLive},
    DestinationStep{D::kLive, kUrgent, F::kCommit, D::kCommitted},
    DestinationStep{D::kLive, kUrgent, F::kCommitPaused, D::kCommitted},
    DestinationStep{D::kLive, kUrgent, F::kAbort, D::kRefused},
    // What becomes kArmed by itself.
    DestinationStep{D::kArming, kData, F::kPages, D::kArming},
    DestinationStep{D::kArming, kData, F::kMarker, D::kArming},
    // While none is missing the migration may still end as pre-copy.
    DestinationStep{D::kArmed, kData, F::kPages, D::kArmed},
    DestinationStep{D::kArmed, kData, F::kMarker, D::kArmed},
    DestinationStep{D::kArmed, kData, F::kPunch, D::kPunched},
    DestinationStep{D::kArmed, kUrgent, F::kDeviceState, D::kArmed},
    DestinationStep{D::kArmed, kUrgent, F::kPostcopyOff, D::kLive},
    DestinationStep{D::kArmed, kUrgent, F::kPostcopyFinal, D::kServing},
    DestinationStep{D::kArmed, kUrgent, F::kAbort, D::kRefused},
    // The last of what is not missing.
    DestinationStep{D::kPunched, kData, F::kPages, D::kPunched},
    DestinationStep{D::kPunched, kData, F::kPunch, D::kPunched},
    DestinationStep{D::kPunched, kData, F::kMarker, D::kPunched},
    DestinationStep{D::kPunched, kUrgent, F::kDeviceState, D::kPunched},
    DestinationStep{D::kPunched, kUrgent, F::kPostcopyFinal, D::kServing},
    DestinationStep{D::kPunched, kUrgent, F::kAbort, D::kRefused},
    DestinationStep{D::kServing, kUrgent, F::kFaultPages, D::kServing},
    DestinationStep{D::kServing, kUrgent, F::kPrepagedPages, D::kServing},
    DestinationStep{D::kServing, kUrgent, F::kDeviceState, D::kServing},
    DestinationStep{D::kServing, kUrgent, F::kDeviceStateEnd, D::kServing},
    DestinationStep{D::kServing, kUrgent, F::kCommit, D::kCommittedServing},
    DestinationStep{D::kServing, kUrgent, F::kCommitPaused, D::kCommittedServing},
    DestinationStep{D::kServing, kUrgent, F::kAbort, D::kRefused},
    DestinationStep{D::kCommittedServing, kUrgent, F::kFaultPages, D::kCommittedServing},
    DestinationStep{D::kCommittedServing, kUrgent, F::kPrepagedPages, D::kCommittedServing},
    // The end of the stream may come behind COMMIT: QEMU closes it after it has said `completed`.
    DestinationStep{D::kCommittedServing, kUrgent, F::kDeviceState, D::kCommittedServing},
    DestinationStep{D::kCommittedServing, kUrgent, F::kDeviceStateEnd, D::kCommittedServing},
    DestinationStep{D::kDraining, kUrgent, F::kDeviceState, D::kDraining},
    DestinationStep{D::kDraining, kUrgent, F::kDeviceStateEnd, D::kDraining},
    DestinationStep{D::kDraining, kData, F::kPages, D::kDraining},
    DestinationStep{D::kDraining, kData, F::kMarker, D::kDraining},
    DestinationStep{D::kDraining, kUrgent, F::kFaultPages, D::kDraining},
    DestinationStep{D::kDraining, kUrgent, F::kPrepagedPages, D::kDraining},
    DestinationStep{D::kDraining, kUrgent, F::kMarker, D::kDraining},
};

}  // namespace

std::string_view phase_name(SourcePhase phase) {
    constexpr std::array<std::string_view, kSourcePhaseCount> kNames = {
        "rounds",    "arming",  "armed",         "saving",        "loaded",
        "committed", "done",    "saving-served", "loaded-served", "committed-served",
        "draining",  "drained", "over"};
    return kNames[static_cast<size_t>(phase)];
}

std::string_view phase_name(DestinationPhase phase) {
    constexpr std::array<std::string_view, kDestinationPhaseCount> kNames = {
        "live",     "arming",    "armed",   "punched",
        "serving",  "committed", "resumed", "committed-serving",
        "draining", "drained",   "refused"};
    return kNames[static_cast<size_t>(phase)];
}

std::optional<SourcePhase> after(SourcePhase phase, FrameKind frame) {
    // It proves that the peer lives, at any time.
    if (frame == F::kPong) return phase;
    const auto step = std::find_if(kSourceSteps.begin(), kSourceSteps.end(), [&](const auto& s) {
        return s.from == phase && s.frame == frame;
    });
    if (step == kSourceSteps.end()) return std::nullopt;
    return step->to;
}

std::optional<DestinationPhase> after(DestinationPhase phase, StreamKind stream, FrameKind frame) {
    if (frame == F::kPing && stream == kUrgent) return phase;
    const auto step = std::find_if(
        kDestinationSteps.begin(), kDestinationSteps.end(),
        [&](const auto& s) { return s.from == phase && s.stream == stream && s.frame == frame; });
    if (step == kDestinationSteps.end()) return std::nullopt;
    return step->to;
}

}  // namespace godwit
