// StepHook: told which step a migration has reached, so that a test can stop it just there.
#pragma once

#include <array>
#include <functional>
#include <string_view>

namespace godwit {

// Called on the thread that reached the step; the migration goes on when it returns. In production
// it does nothing.
using StepHook = std::function<void(std::string_view step)>;

inline void no_hook(std::string_view) {}

namespace step {

// At the source, in this order.
inline constexpr std::string_view kPrepared = "prepared";           // streams open, nothing sent
inline constexpr std::string_view kRoundSent = "round-sent";        // each live round, confirmed
inline constexpr std::string_view kPunchedEarly = "punched-early";  // post-copy; the guest runs
inline constexpr std::string_view kGuardStarted = "guard-started";  // not armed; the guest runs
inline constexpr std::string_view kGuardArmed = "guard-armed";  // QEMU was not asked to stop yet
inline constexpr std::string_view kFrozen = "frozen";           // pre-switchover
inline constexpr std::string_view kLastPagesSent = "last-pages-sent";
inline constexpr std::string_view kDeviceStateLeaves = "device-state-leaves";  // while frozen
inline constexpr std::string_view kLoaded = "loaded";             // completed and LOADED
inline constexpr std::string_view kVerified = "verified";         // the word is still open
inline constexpr std::string_view kWordDecided = "word-decided";  // COMMIT, byte not sent
inline constexpr std::string_view kCommitSent = "commit-sent";
inline constexpr std::string_view kResumedSeen = "resumed-seen";  // source QEMU not killed yet
inline constexpr std::string_view kDraining = "draining";         // it is; nothing was pushed yet
inline constexpr std::string_view kDrained = "drained";           // the RAM file is still kept

inline constexpr std::string_view kConcluded = "concluded";  // ENDED is not in the journal

// At the destination, in this order.
inline constexpr std::string_view kIncoming = "incoming";  // QEMU waits; Prepare is not answered
inline constexpr std::string_view kStreamsAccepted = "streams-accepted";
inline constexpr std::string_view kDeviceStateCame = "device-state-came";  // QEMU has none of it
inline constexpr std::string_view kLoadDone = "load-done";                 // LOADED not sent
inline constexpr std::string_view kCommitCame = "commit-came";    // CONT is not in the journal
inline constexpr std::string_view kContNoted = "cont-noted";      // in the journal; QEMU not asked
inline constexpr std::string_view kContDone = "cont-done";        // RESUMED not sent
inline constexpr std::string_view kContRefused = "cont-refused";  // QEMU's error; still alive
inline constexpr std::string_view kResumedSent = "resumed-sent";  // journal still says CONT
inline constexpr std::string_view kArmed = "armed";               // post-copy: faults can be caught
inline constexpr std::string_view kServing = "serving";  // faults are asked for; not loaded yet
inline constexpr std::string_view kLastPageCame = "last-page-came";  // DRAINED not sent

inline constexpr std::array kAll = {
    kPrepared,    kRoundSent,     kPunchedEarly,      kGuardStarted,    kGuardArmed,
    kFrozen,      kLastPagesSent, kDeviceStateLeaves, kLoaded,          kVerified,
    kWordDecided, kCommitSent,    kResumedSeen,       kDraining,        kDrained,
    kConcluded,   kIncoming,      kStreamsAccepted,   kDeviceStateCame, kLoadDone,
    kCommitCame,  kContNoted,     kContDone,          kContRefused,     kResumedSent,
    kArmed,       kServing,       kLastPageCame};

}  // namespace step
}  // namespace godwit
