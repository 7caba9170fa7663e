// What either side of a migration may hear from the other, and what it becomes by hearing it.
//
// Pure tables: the two state machines have no other list of what is legal. A frame that the table
// does not have at that moment is a breach of the protocol: the connection ends there, and what
// follows is what follows any lost connection (DESIGN section 8).
//
//   source        kRounds ─► kArming ─► kArmed ─► kSavingServed ─► kLoadedServed ─► …
//                    └─► kSaving ◄────────┘  (all pages are there after all)
//                           └─► kLoaded ─► kCommitted ─► kDone
//                 … ─► kCommittedServed ─► kDraining ─► kDrained
//
//   destination   kLive ─► kArming ─► kArmed ─► kPunched ─► kServing ─► …
//                    └─► kCommitted ─► kResumed
//                 … ─► kCommittedServing ─► kDraining ─► kDrained
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "transport/frame/frame_header.h"

namespace godwit {

enum class SourcePhase : uint8_t {
    kRounds,  // streams are open; the guest runs here
    kArming,  // kPostcopyBegin was sent
    kArmed,   // the destination can catch faults
    kSaving,  // all pages are there; device state is under way
    kLoaded,  // the destination has loaded it
    kCommitted,
    kDone,  // RESUMED, with all pages
    // The same with pages missing: faults are answered from here on.
    kSavingServed,
    kLoadedServed,
    kCommittedServed,
    kDraining,  // RESUMED; the rest of the pages follows
    kDrained,
    kOver,  // the destination said that it ended badly
};
inline constexpr int kSourcePhaseCount = 13;

enum class DestinationPhase : uint8_t {
    kLive,     // pages come; device state may
    kArming,   // kPostcopyBegin came; faults can't be caught yet
    kArmed,    // faults can be caught; no page is missing yet
    kPunched,  // pages are missing, and more may become so
    kServing,  // what is missing is final; faults are asked for
    kCommitted,
    kResumed,  // with all pages
    kCommittedServing,
    kDraining,
    kDrained,
    kRefused,
};
inline constexpr int kDestinationPhaseCount = 11;

enum class StreamKind : uint8_t { kData, kUrgent };

std::string_view phase_name(SourcePhase phase);
std::string_view phase_name(DestinationPhase phase);

// The phase after a frame of the destination (they come on the urgent stream only); nothing: it is
// not legal now.
std::optional<SourcePhase> after(SourcePhase phase, FrameKind frame);

// The phase after a frame of the source.
std::optional<DestinationPhase> after(DestinationPhase phase, StreamKind stream, FrameKind frame);

}  // namespace godwit
