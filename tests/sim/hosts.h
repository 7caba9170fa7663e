// Both hosts of one simulated migration, and what its agents share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/source/in_doubt.h"
#include "tests/sim/disk.h"
#include "tests/sim/guest.h"
#include "tests/sim/kept_ram.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

namespace godwit::sim {

class SourceAgent;
class DestinationAgent;
class Guard;

// One step done wrong, to show that the simulation finds it.
enum class Mutant {
    kNone,
    kResumesWithoutAnAnswer,      // in doubt is taken for REFUSED
    kRunsAStaleCopy,              // a destination that finds LIVE after a crash runs its copy
    kForgetsToSyncBeforeTheWord,  // FREEZING is in memory only when COMMIT leaves
    kGuardIgnoresTheWord,         // gives the guest back though COMMIT was decided
    kRefusesWithQemuAlive,        // REFUSED before the copy is dead
    kSendsCommitBeforeLoaded,     // does not wait for the destination
    kSkipsTheLastPages,           // what was written since the last round stays behind
    kLosesAPage,                  // one that was written is not sent, now and then
    kRunsAtLoad,                  // a destination that does not wait for COMMIT
    kCommitsWithoutTheWord,       // the byte leaves whatever the guard has decided
    kAnswersRefusedAfterAReboot,  // LIVE of an earlier boot is taken for never
    // With pages that follow the guest:
    kForgetsAStalePage,     // it is dropped, and not noted as missing
    kTicksOffTooEarly,      // what is noted as missing is so no more before it is in place
    kOverwritesInTheDrain,  // what came over what the guest has written since
    kTrustsTheLastMarker,   // DRAINED, whatever is noted as missing
    kLetsGoAtResumed,       // the source's memory goes with its QEMU
    kRunsWithoutItsPages,   // a restarted destination that lets it run and serves no fault
    // Where one host has lost what it had:
    kEndsItsCopyForALostOne,   // that the destination's is lost is enough in any doubt
    kAsksALostOneForEver,      // it is enough in no drain
    kCallsForAWholeGuestsEnd,  // draining is taken for missing pages
    kForgetsItsQemusPages,     // a lost link is a lost memory, though QEMU has it
};

struct Hosts {
    Hosts(uint64_t seed, Mutant wrong) : world(seed), mutant(wrong) {}

    World world;
    const Mutant mutant;
    Guest guest;
    Link link;

    bool is_postcopy = false;  // pages may follow the guest
    bool drains = false;       // they have to
    bool opens_late = false;   // a restarted source can't open them for a while

    Disk source_disk{world};
    KeptRam kept_ram;
    std::shared_ptr<Qemu> source_qemu;
    std::shared_ptr<SourceAgent> source;  // none while it is down
    std::shared_ptr<Guard> guard;

    Disk destination_disk{world};
    std::shared_ptr<Qemu> destination_qemu;  // none before Prepare
    std::shared_ptr<DestinationAgent> destination;
    int destination_boot = 0;

    std::vector<std::shared_ptr<Wire>> wires;  // the last one is in use

    bool prepared = false;  // Prepare came to the destination
    bool power_lost_there = false;
    bool power_lost_here = false;
    bool pages_lost_here = false;  // neither a link to the memory nor QEMU is left at the source

    // By the source. The guest must have no need of it any more.
    void release_kept_ram();

    // A call from a thread of one host to the agent of the other: `is_up` says whether it is there.
    template <typename Answer>
    absl::StatusOr<Answer> call(const char* name, const std::function<bool()>& is_up,
                                const std::function<absl::StatusOr<Answer>()>& handler);
};

inline void Hosts::release_kept_ram() {
    if (!kept_ram.exists()) return;
    world.say("source: lets go of the guest's memory");
    if (guest.runs_in != nullptr && guest.runs_in == destination_qemu.get() &&
        destination_qemu->misses_pages())
        world.violated("the source lets go of pages that the guest still needs");
    kept_ram.release();
}

template <typename Answer>
absl::StatusOr<Answer> Hosts::call(const char* name, const std::function<bool()>& is_up,
                                   const std::function<absl::StatusOr<Answer>()>& handler) {
    world.step(name);
    world.sleep(link.slowness + world.between(microseconds(100), milliseconds(2)));
    if (!link.up || !is_up()) {
        world.sleep(world.between(milliseconds(1), seconds(2)));
        return absl::UnavailableError("the other agent does not answer");
    }
    absl::StatusOr<Answer> answer = handler();
    world.sleep(link.slowness + world.between(microseconds(100), milliseconds(2)));
    // The answer may be lost where the question was not.
    if (!link.up || !is_up()) return absl::UnavailableError("the call was lost");
    return answer;
}

}  // namespace godwit::sim
