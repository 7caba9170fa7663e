// Every phase against every frame: what is legal, written down a second time and in another way.
#include "engine/handover/phases.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace godwit {
namespace {

using F = FrameKind;
using S = SourcePhase;
using D = DestinationPhase;

constexpr uint16_t kFrameKinds = static_cast<uint16_t>(F::kDamaged);

std::string name_of(S phase) { return std::string(phase_name(phase)); }
std::string name_of(D phase) { return std::string(phase_name(phase)); }

// phase -> frame -> phase after it.
using SourceTable = std::map<S, std::map<F, S>>;

SourceTable source_table() {
    SourceTable table;
    const auto stay = [&](std::set<S> phases, std::set<F> frames) {
        for (const S phase : phases)
            for (const F frame : frames) table[phase][frame] = phase;
    };
    for (int i = 0; i < kSourcePhaseCount; ++i) stay({static_cast<S>(i)}, {F::kPong});
    // Until the pages are all there, or known to be missing, rounds are acknowledged.
    stay({S::kRounds, S::kArmed, S::kOver}, {F::kMarkerAck, F::kDamaged});
    stay({S::kOver}, {F::kPostcopyReady});
    table[S::kArming][F::kPostcopyReady] = S::kArmed;
    table[S::kSaving][F::kLoaded] = S::kLoaded;
    table[S::kSavingServed][F::kLoaded] = S::kLoadedServed;
    stay({S::kLoaded}, {F::kVerifyResult, F::kVerifyPagesResult});
    table[S::kCommitted][F::kResumed] = S::kDone;
    table[S::kCommittedServed][F::kResumed] = S::kDraining;
    for (const S phase : {S::kCommitted, S::kCommittedServed}) table[phase][F::kRefused] = S::kOver;
    // A page may be asked for as soon as what is missing is final.
    stay({S::kSavingServed, S::kLoadedServed, S::kCommittedServed, S::kDraining, S::kOver},
         {F::kPageRequest});
    stay({S::kCommittedServed, S::kDraining}, {F::kMissing, F::kMissingEnd});
    table[S::kDraining][F::kDrained] = S::kDrained;
    table[S::kDraining][F::kGuestGone] = S::kOver;
    // Bad news end everything before COMMIT, and nothing after it.
    for (const S phase : {S::kRounds, S::kArming, S::kArmed, S::kSaving, S::kLoaded,
                          S::kSavingServed, S::kLoadedServed})
        for (const F frame : {F::kAbort, F::kLoadFailed}) table[phase][frame] = S::kOver;
    stay({S::kCommitted, S::kCommittedServed, S::kOver}, {F::kAbort, F::kLoadFailed});
    stay({S::kDraining}, {F::kAbort});
    return table;
}

TEST(SourcePhases, HaveExactlyTheseSteps) {
    const SourceTable table = source_table();
    for (int i = 0; i < kSourcePhaseCount; ++i) {
        const auto phase = static_cast<S>(i);
        for (uint16_t kind = 0; kind <= kFrameKinds + 1; ++kind) {
            const auto frame = static_cast<F>(kind);
            const std::string what =
                name_of(phase) + " hears " + std::string(frame_kind_name(frame));
            const std::optional<S> next = after(phase, frame);
            const bool legal = table.contains(phase) && table.at(phase).contains(frame);
            ASSERT_EQ(next.has_value(), legal) << what;
            if (legal) {
                EXPECT_EQ(name_of(*next), name_of(table.at(phase).at(frame))) << what;
            }
        }
    }
}

TEST(SourcePhases, NeverRunTheGuestAgainAfterResumed) {
    // From RESUMED on no frame leads back to a phase in which the source may roll back: REFUSED is
    // not legal any more.
    for (const S phase : {S::kDone, S::kDraining, S::kDrained})
        EXPECT_FALSE(after(phase, F::kRefused).has_value()) << name_of(phase);
}

using DestinationTable = std::map<D, std::map<std::pair<StreamKind, F>, D>>;

DestinationTable destination_table() {
    DestinationTable table;
    const auto data = [](F frame) { return std::pair(StreamKind::kData, frame); };
    const auto urgent = [](F frame) { return std::pair(StreamKind::kUrgent, frame); };
    for (int i = 0; i < kDestinationPhaseCount; ++i)
        table[static_cast<D>(i)][urgent(F::kPing)] = static_cast<D>(i);
    for (const D phase : {D::kLive, D::kArming, D::kArmed, D::kPunched, D::kDraining})
        for (const F frame : {F::kPages, F::kMarker}) table[phase][data(frame)] = phase;
    table[D::kDraining][urgent(F::kMarker)] = D::kDraining;
    for (const D phase : {D::kArmed, D::kPunched}) table[phase][data(F::kPunch)] = D::kPunched;
    table[D::kLive][urgent(F::kPostcopyBegin)] = D::kArming;
    table[D::kArmed][urgent(F::kPostcopyOff)] = D::kLive;
    for (const D phase : {D::kArmed, D::kPunched})
        table[phase][urgent(F::kPostcopyFinal)] = D::kServing;
    for (const D phase : {D::kLive, D::kArmed, D::kPunched, D::kServing})
        table[phase][urgent(F::kAbort)] = D::kRefused;
    // QEMU may close its stream late.
    for (const D phase :
         {D::kLive, D::kArmed, D::kPunched, D::kServing, D::kCommittedServing, D::kDraining})
        table[phase][urgent(F::kDeviceState)] = phase;
    for (const D phase : {D::kLive, D::kServing, D::kCommittedServing, D::kDraining})
        table[phase][urgent(F::kDeviceStateEnd)] = phase;
    for (const F frame : {F::kVerifyBegin, F::kVerifyChunks, F::kVerifyPages})
        table[D::kLive][urgent(frame)] = D::kLive;
    for (const F frame : {F::kCommit, F::kCommitPaused}) {
        table[D::kLive][urgent(frame)] = D::kCommitted;
        table[D::kServing][urgent(frame)] = D::kCommittedServing;
    }
    for (const D phase : {D::kServing, D::kCommittedServing, D::kDraining})
        for (const F frame : {F::kFaultPages, F::kPrepagedPages})
            table[phase][urgent(frame)] = phase;
    return table;
}

TEST(DestinationPhases, HaveExactlyTheseSteps) {
    const DestinationTable table = destination_table();
    for (int i = 0; i < kDestinationPhaseCount; ++i) {
        const auto phase = static_cast<D>(i);
        for (const StreamKind stream : {StreamKind::kData, StreamKind::kUrgent})
            for (uint16_t kind = 0; kind <= kFrameKinds + 1; ++kind) {
                const auto frame = static_cast<F>(kind);
                const std::string what =
                    name_of(phase) + " hears " + std::string(frame_kind_name(frame)) +
                    (stream == StreamKind::kData ? " on a data stream" : " on the urgent stream");
                const std::optional<D> next = after(phase, stream, frame);
                const auto key = std::pair(stream, frame);
                const bool legal = table.at(phase).contains(key);
                ASSERT_EQ(next.has_value(), legal) << what;
                if (legal) {
                    EXPECT_EQ(name_of(*next), name_of(table.at(phase).at(key))) << what;
                }
            }
    }
}

TEST(DestinationPhases, TakeNoPushedPageFromTheLastPunchOnUntilTheDrain) {
    for (const D phase : {D::kServing, D::kCommittedServing})
        EXPECT_FALSE(after(phase, StreamKind::kData, F::kPages).has_value()) << name_of(phase);
}

}  // namespace
}  // namespace godwit
