#include "tests/sim/simulation.h"

#include <fmt/format.h>

#include "engine/base/log.h"
#include "tests/sim/trouble.h"

namespace godwit::sim {
namespace {

constexpr Duration kWholeRun = minutes(40);

// The end: all agents are back, links and disks are well again, and there was time enough.
std::string judge(Hosts& hosts, bool operator_gave_back, bool operator_spoke) {
    const Guest& guest = hosts.guest;
    Qemu* const here = hosts.source_qemu.get();
    Qemu* const there = hosts.destination_qemu.get();
    const bool is_here = here->alive();
    const bool is_there = there != nullptr && there->alive();
    const auto said = hosts.source->guest_at();
    if (!said) return "it has not ended: the guest is still in doubt, being given back, or drained";
    if (is_here && is_there) return "both copies are left";
    if (hosts.kept_ram.exists()) return "the source's memory is left behind";
    if (!is_here && !is_there) {
        if (!guest.may_be_lost) return "the guest is lost: no copy is left";
        return "";
    }
    // Given back where its QEMU had ended: a destination that comes back keeps the only copy.
    const bool is_operators_word = operator_gave_back && is_there && *said == v1::GUEST_AT_NONE;
    if (!is_operators_word && *said != (is_here ? v1::GUEST_AT_SOURCE : v1::GUEST_AT_DESTINATION))
        return fmt::format("the source says {}, and the guest is elsewhere",
                           v1::GuestAt_Name(*said));
    Qemu& one = is_here ? *here : *there;
    if (is_there && hosts.source->needs_operator() && hosts.destination->has_all_pages())
        return "an operator is called to end a guest that is whole";
    // Lost with the source's host: its report says so, or an operator has ended the doubt.
    const bool pages_are_lost = hosts.power_lost_here || hosts.pages_lost_here;
    if (pages_are_lost && is_there && (hosts.source->needs_operator() || operator_spoke)) return "";
    if (one.misses_pages()) return "pages are missing for ever";
    if (one.has_caught_faults()) return "faults are caught, and nobody serves them";
    if (one.runs() != guest.was_running)
        return guest.was_running ? "the guest does not run" : "a paused guest runs";
    if (one.memory() != guest.truth) return "its memory is not what it wrote";
    return "";
}

}  // namespace

void Tally::add(const Outcome& outcome) {
    ++runs;
    at_source += outcome.guest_at == v1::GUEST_AT_SOURCE ? 1 : 0;
    at_destination += outcome.guest_at == v1::GUEST_AT_DESTINATION ? 1 : 0;
    died += outcome.guest_at == v1::GUEST_AT_NONE ? 1 : 0;
    in_doubt += outcome.was_in_doubt ? 1 : 0;
    operator_spoke += outcome.operator_spoke ? 1 : 0;
    drained += outcome.drained ? 1 : 0;
    said_to_be_lost += outcome.said_to_be_lost ? 1 : 0;
    failed += outcome.violation.empty() ? 0 : 1;
}

std::string Tally::text() const {
    return fmt::format(
        "{} migrations: guest at the source {}, at the destination {}, died {}; in doubt meanwhile "
        "{}, ended by an operator {}, who said of {} that it is lost; with pages that followed {}; "
        "seeds that fail: {}",
        runs, at_source, at_destination, died, in_doubt, operator_spoke, said_to_be_lost, drained,
        failed);
}

Outcome simulate(uint64_t seed, Mutant mutant) {
    // Thousands of runs say nothing; what is worth reading is in the history.
    spdlog::set_level(spdlog::level::off);
    Hosts hosts(seed, mutant);
    World& world = hosts.world;
    hosts.guest.was_running = !world.chance(15);
    // Two of five.
    hosts.is_postcopy = seed % 5 < 2;
    hosts.opens_late = seed % 6 == 1;
    hosts.source_qemu =
        std::make_shared<Qemu>(world, hosts.guest, "source's QEMU", false, Qemu::State::kPaused);
    if (hosts.guest.was_running) hosts.source_qemu->start_guest();
    hosts.source = std::make_shared<SourceAgent>(hosts);
    hosts.destination = std::make_shared<DestinationAgent>(hosts);
    Trouble trouble(hosts);
    world.on_step = [&](std::string_view step) { trouble.on_step(step); };
    trouble.watch_doubt();
    // The guest has lived before.
    world.after(seconds(1), [&] { hosts.source->migrate(); });
    world.run(kWholeRun);

    Outcome outcome{.violation = world.violation(),
                    .was_in_doubt = trouble.was_in_doubt(),
                    .operator_spoke = trouble.operator_spoke()};
    if (outcome.violation.empty())
        outcome.violation = judge(hosts, trouble.gave_back(), trouble.operator_spoke());
    outcome.drained = hosts.drains;
    outcome.said_to_be_lost = trouble.said_to_be_lost();
    if (hosts.source && hosts.source->guest_at()) outcome.guest_at = *hosts.source->guest_at();
    outcome.history = world.history();
    return outcome;
}

const std::vector<NamedMutant>& mutants() {
    static const std::vector<NamedMutant> kAll = {
        {Mutant::kResumesWithoutAnAnswer, "resumes-without-an-answer"},
        {Mutant::kRunsAStaleCopy, "runs-a-stale-copy"},
        {Mutant::kForgetsToSyncBeforeTheWord, "forgets-to-sync-before-the-word"},
        {Mutant::kGuardIgnoresTheWord, "guard-ignores-the-word"},
        {Mutant::kRefusesWithQemuAlive, "refuses-with-qemu-alive"},
        {Mutant::kSendsCommitBeforeLoaded, "sends-commit-before-loaded"},
        {Mutant::kSkipsTheLastPages, "skips-the-last-pages"},
        {Mutant::kLosesAPage, "loses-a-page"},
        {Mutant::kRunsAtLoad, "runs-at-load"},
        {Mutant::kCommitsWithoutTheWord, "commits-without-the-word"},
        {Mutant::kAnswersRefusedAfterAReboot, "answers-refused-after-a-reboot"},
        {Mutant::kForgetsAStalePage, "forgets-a-stale-page"},
        {Mutant::kTicksOffTooEarly, "ticks-off-too-early"},
        {Mutant::kOverwritesInTheDrain, "overwrites-in-the-drain"},
        {Mutant::kTrustsTheLastMarker, "trusts-the-last-marker"},
        {Mutant::kLetsGoAtResumed, "lets-go-at-resumed"},
        {Mutant::kRunsWithoutItsPages, "runs-without-its-pages"},
        {Mutant::kEndsItsCopyForALostOne, "ends-its-copy-for-a-lost-one"},
        {Mutant::kAsksALostOneForEver, "asks-a-lost-one-for-ever"},
        {Mutant::kCallsForAWholeGuestsEnd, "calls-for-a-whole-guests-end", 30'000},
        {Mutant::kForgetsItsQemusPages, "forgets-its-qemus-pages"},
    };
    return kAll;
}

}  // namespace godwit::sim
