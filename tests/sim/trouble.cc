#include "tests/sim/trouble.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace godwit::sim {
namespace {

struct Steps {
    uint64_t first = 0;
    uint64_t count = 0;
};
// A migration of six pages takes some thirty steps without trouble; the guest is frozen at the
// 14th, and COMMIT leaves at the 22nd.
constexpr Steps kOfAMigration{0, 60};
constexpr Steps kThatDecide{12, 28};
constexpr Steps kAboutCommit{20, 14};
// The same of one whose last pages follow the guest.
constexpr Steps kOfAPostcopy{0, 100};
constexpr Steps kThatDecideInAPostcopy{16, 54};
constexpr Steps kAboutCommitAndDrain{22, 40};
constexpr Duration kLongestTrouble = minutes(2);

constexpr std::array kKindNames = {
    "the source's agent is killed",
    "the destination's agent is killed",
    "the source's agent stands still",
    "the destination's agent stands still",
    "the guard is killed",
    "the source's QEMU is killed",
    "the destination's QEMU is killed",
    "the connection is cut",
    "a frame is lost",
    "a frame comes twice",
    "a frame is late",
    "the link is half open",
    "the peer is slow",
    "the source's host loses its power",
    "the destination's host loses its power",
    "the source's disk is full",
    "the destination's disk is full",
    "the source's QEMU is slow",
    "the destination's QEMU is slow",
    "the destination's QEMU refuses cont",
    "the destination's QEMU can't load",
    "somebody cancels",
    "pages are to come damaged",
    "somebody removes the second link to the source's memory",
    "the destination's host loses its power and its state directory",
};

}  // namespace

Trouble::Trouble(Hosts& hosts) : hosts_(hosts), hasty_operator_(hosts.world.chance(30)) {
    World& world = hosts_.world;
    // Of few kinds, often: what is rare alone is rarer together.
    static const std::vector<std::vector<Kind>> kMeet = {
        {Kind::kContRefused, Kind::kDestinationDiskFull, Kind::kKillDestination},
        {Kind::kContRefused, Kind::kRebootDestination, Kind::kHalfOpen},
        {Kind::kKillDestination, Kind::kSourceDiskFull, Kind::kHalfOpen},
        {Kind::kKillSource, Kind::kRebootDestination, Kind::kCut},
        {Kind::kKillDestination, Kind::kSlowPeer, Kind::kSlowDestinationQemu},
    };
    static const std::vector<std::vector<Kind>> kMeetInADrain = {
        {Kind::kCut, Kind::kKillDestinationQemu, Kind::kKillDestination},
        {Kind::kCut, Kind::kKillDestination, Kind::kKillSource},
        {Kind::kCut, Kind::kDestinationDiskFull, Kind::kKillDestination},
        {Kind::kLoseFrame, Kind::kDamagePages, Kind::kHalfOpen},
        {Kind::kRebootSource, Kind::kCut, Kind::kKillDestination},
        {Kind::kRebootDestination, Kind::kCut, Kind::kKillSource},
        {Kind::kUnlinkKeptRam, Kind::kKillSource, Kind::kSlowDestinationQemu},
        {Kind::kWipeDestination, Kind::kLoseFrame, Kind::kKillSource},
    };
    const bool they_meet = world.chance(25);
    std::vector<Kind> kinds;
    const auto& meet = hosts_.is_postcopy && world.chance(60) ? kMeetInADrain : kMeet;
    if (they_meet) kinds = meet[world.below(meet.size())];
    const uint64_t kind_count = world.chance(60) ? 3 : 12;
    const Kind end = hosts_.is_postcopy ? Kind::kCount : Kind::kDamagePages;
    while (kinds.size() < kind_count)
        kinds.push_back(static_cast<Kind>(world.below(static_cast<uint64_t>(end))));
    const uint64_t count = they_meet ? 3 + world.below(3) : world.below(7);
    for (uint64_t i = 0; i < count; ++i) {
        Steps among = hosts_.is_postcopy ? kOfAPostcopy : kOfAMigration;
        // Most of it where it decides who has the guest.
        if (they_meet)
            among = hosts_.is_postcopy ? kAboutCommitAndDrain : kAboutCommit;
        else if (world.chance(60))
            among = hosts_.is_postcopy ? kThatDecideInAPostcopy : kThatDecide;
        planned_.push_back({.at_step = among.first + world.below(among.count),
                            .kind = kinds[world.below(kinds.size())]});
    }
    std::sort(planned_.begin(), planned_.end(),
              [](const Planned& a, const Planned& b) { return a.at_step < b.at_step; });
}

void Trouble::on_step(std::string_view step) {
    hosts_.world.say(fmt::format("  step {}: {}", steps_, step));
    const uint64_t now = steps_++;
    if (hosts_.guest.runs_in && hosts_.world.chance(40)) hosts_.guest.runs_in->write();
    for (const Planned& planned : planned_)
        if (planned.at_step == now) happen(planned.kind);
}

// A destination that can't reach a source to which an operator gave the guest back runs it: that is
// the operator's word alone, and no defect.
bool Trouble::would_spoil_the_word(Kind kind) const {
    if (!gave_back_ && !mind_is_made_up_) return false;
    switch (kind) {
        case Kind::kKillSource:
        case Kind::kRebootSource:
            return hosts_.destination != nullptr;
        case Kind::kHalfOpen:
        case Kind::kSlowPeer:
        case Kind::kKillDestination:
        case Kind::kRebootDestination:
        case Kind::kWipeDestination:
        case Kind::kStopSource:
            return true;
        default:
            return false;
    }
}

void Trouble::happen(Kind kind) {
    World& world = hosts_.world;
    if (would_spoil_the_word(kind)) return;
    world.say(fmt::format("TROUBLE: {}", kKindNames.at(static_cast<size_t>(kind))));
    const Duration lasting =
        world.chance(50) ? world.between({}, seconds(3)) : world.between({}, kLongestTrouble);
    switch (kind) {
        case Kind::kKillSource:
            return kill_source();
        case Kind::kKillDestination:
            return kill_destination();
        case Kind::kStopSource:
            if (hosts_.source) hosts_.source->stand_still(lasting);
            return;
        case Kind::kStopDestination:
            if (hosts_.destination) hosts_.destination->stand_still(lasting);
            return;
        case Kind::kKillGuard:
            if (hosts_.guard) hosts_.guard->die();
            return;
        case Kind::kKillSourceQemu:
            if (hosts_.source_qemu->alive()) hosts_.guest.may_be_lost = true;
            return hosts_.source_qemu->die("by a fault");
        case Kind::kRebootSource:
            kill_source();
            if (hosts_.guard) hosts_.guard->die();
            // With its last pages, where they are missing at the destination.
            if (hosts_.source_qemu->alive() || hosts_.kept_ram.exists())
                hosts_.guest.may_be_lost = true;
            hosts_.source_qemu->die("with its host");
            hosts_.kept_ram.release();
            hosts_.power_lost_here = true;
            return hosts_.source_disk.lose_power();
        case Kind::kKillDestinationQemu:
        case Kind::kRebootDestination:
        case Kind::kWipeDestination:
            return lose_destination(kind);
        case Kind::kCut:
            if (!hosts_.wires.empty()) hosts_.wires.back()->cut();
            return follow_with_source(kind);
        case Kind::kLoseFrame:
            if (!hosts_.wires.empty()) hosts_.wires.back()->lose_next();
            return follow_with_source(kind);
        case Kind::kUnlinkKeptRam:
            return hosts_.kept_ram.release();
        case Kind::kDamagePages:
            if (!hosts_.wires.empty()) hosts_.wires.back()->damage_next();
            return;
        case Kind::kRepeatFrame:
            if (!hosts_.wires.empty()) hosts_.wires.back()->repeat_next();
            return;
        case Kind::kDelayFrame:
            if (!hosts_.wires.empty())
                hosts_.wires.back()->delay_next(world.between({}, seconds(15)));
            return;
        case Kind::kHalfOpen:
            hosts_.link.up = false;
            return world.after(lasting, [this] { hosts_.link.up = true; });
        case Kind::kSlowPeer:
            hosts_.link.slowness = world.between({}, seconds(4));
            return world.after(lasting, [this] { hosts_.link.slowness = {}; });
        case Kind::kSourceDiskFull:
            hosts_.source_disk.full = true;
            return world.after(lasting, [this] { hosts_.source_disk.full = false; });
        case Kind::kDestinationDiskFull:
            hosts_.destination_disk.full = true;
            return world.after(lasting, [this] { hosts_.destination_disk.full = false; });
        case Kind::kSlowSourceQemu:
            hosts_.source_qemu->slowness = world.between({}, seconds(40));
            return;
        case Kind::kSlowDestinationQemu:
            if (hosts_.destination_qemu)
                hosts_.destination_qemu->slowness = world.between({}, seconds(25));
            return;
        case Kind::kContRefused:
            if (!hosts_.destination_qemu) return;
            hosts_.destination_qemu->refuses_cont = true;
            return world.after(lasting, [this] { hosts_.destination_qemu->refuses_cont = false; });
        case Kind::kLoadFails:
            if (hosts_.destination_qemu) hosts_.destination_qemu->fails_to_load = true;
            return;
        case Kind::kCancel:
            if (hosts_.source) hosts_.source->cancel();
            return;
        case Kind::kCount:
            return;
    }
}

// The source is lost before either side has noticed that the connection is.
void Trouble::follow_with_source(Kind kind) {
    World& world = hosts_.world;
    if (!hosts_.is_postcopy || !world.chance(15)) return;
    const Kind next = kind == Kind::kCut ? Kind::kUnlinkKeptRam : Kind::kRebootSource;
    world.after(world.between({}, seconds(10)), [this, next] {
        happen(next);
        if (next == Kind::kUnlinkKeptRam) happen(Kind::kKillSource);
    });
}

void Trouble::lose_destination(Kind kind) {
    // From CONT on it may have run the guest, for all that anybody can know.
    const auto record = hosts_.destination_disk.read();
    const bool is_host = kind != Kind::kKillDestinationQemu;
    for (const auto phase :
         {v1::JOURNAL_PHASE_CONT, v1::JOURNAL_PHASE_DRAINING, v1::JOURNAL_PHASE_RESUMED})
        if ((record && record->phase() == phase) ||
            (is_host && hosts_.destination_disk.may_say(phase)))
            hosts_.guest.may_be_lost = true;
    if (is_host) kill_destination();
    if (hosts_.destination_qemu) hosts_.destination_qemu->die("by a fault");
    if (!is_host) return;
    ++hosts_.destination_boot;
    hosts_.power_lost_there = true;
    hosts_.destination_disk.lose_power();
    if (kind == Kind::kWipeDestination) hosts_.destination_disk.wipe();
}

void Trouble::kill_source() {
    if (!hosts_.source) return;
    hosts_.source->die();
    hosts_.source.reset();
    hosts_.world.after(hosts_.world.between(milliseconds(20), minutes(1)),
                       [this] { bring_source_back(); });
}

void Trouble::bring_source_back() {
    if (hosts_.source) return;
    hosts_.world.say("source: a new agent");
    hosts_.source = std::make_shared<SourceAgent>(hosts_);
    hosts_.source->recover();
}

void Trouble::kill_destination() {
    if (!hosts_.destination) return;
    hosts_.destination->die();
    hosts_.destination.reset();
    hosts_.world.after(hosts_.world.between(milliseconds(20), minutes(hasty_operator_ ? 8 : 2)),
                       [this] { bring_destination_back(); });
}

void Trouble::bring_destination_back() {
    if (hosts_.destination) return;
    // It is to reach a source that an operator gave the guest back to.
    if ((gave_back_ || mind_is_made_up_) &&
        (!hosts_.source || !hosts_.source->lives() || !hosts_.link.up))
        return hosts_.world.after(seconds(1), [this] { bring_destination_back(); });
    hosts_.world.say("destination: a new agent");
    hosts_.destination = std::make_shared<DestinationAgent>(hosts_);
    hosts_.destination->recover();
}

void Trouble::watch_doubt() {
    hosts_.world.after(seconds(1), [this] {
        const bool in_doubt = hosts_.source && hosts_.source->in_doubt();
        was_in_doubt_ |= in_doubt;
        if (in_doubt || (hosts_.source && hosts_.source->has_left())) operator_looks();
        watch_doubt();
    });
}

// Says what is true, once nobody else can say it: soon, or when only an operator can.
void Trouble::operator_looks() {
    World& world = hosts_.world;
    // An agent that ended before it noted the word is told again.
    if (told_.lock() == hosts_.source || !world.chance(10)) return;
    const bool is_there = hosts_.destination && hosts_.destination->lives() && hosts_.link.up;
    // `godwit resolve` is refused while the destination answers anything that it knows.
    if (is_there && hosts_.destination->query().state() != v1::INCOMING_STATE_UNKNOWN) return;
    const bool only_one_who_knows = is_there && hosts_.power_lost_there;
    if (!only_one_who_knows && !hasty_operator_) return;
    const Qemu* there = hosts_.destination_qemu.get();
    const bool is_dead_there = there == nullptr || !there->alive();
    Fate fate = Fate::kRefused;
    const auto record = hosts_.destination_disk.read();
    if (hosts_.source->has_left() && !is_dead_there) return;
    // Then the source knows enough.
    if (hosts_.source->has_left() && is_there && hosts_.destination->query().guest_gone()) return;
    if (hosts_.guest.ran_there || hosts_.source->has_left() ||
        (record && (record->phase() == v1::JOURNAL_PHASE_RESUMED ||
                    record->phase() == v1::JOURNAL_PHASE_DRAINING)))
        fate = is_dead_there ? Fate::kNowhere : Fate::kAtDestination;
    else if (there != nullptr && there->alive() && hosts_.destination)
        return;  // its agent may let it run at any moment
    else if (there != nullptr && there->alive() && there->is_busy())
        return;  // what a dead agent had asked for is still carried out
    else if (!hosts_.link.up)
        return;
    told_ = hosts_.source;
    mind_is_made_up_ = fate == Fate::kRefused;
    // The destination may come back between the look and the word.
    const Duration thinks = world.between({}, seconds(5));
    world.after(thinks, [this, fate] { operator_speaks(fate); });
    if (world.chance(50))
        world.after(world.between({}, thinks), [this] { bring_destination_back(); });
}

void Trouble::operator_speaks(Fate fate) {
    World& world = hosts_.world;
    mind_is_made_up_ = false;
    const bool knows = hosts_.destination && hosts_.destination->lives() && hosts_.link.up &&
                       hosts_.destination->query().state() != v1::INCOMING_STATE_UNKNOWN;
    if (knows || !hosts_.source || !hosts_.source->lives() || !hosts_.source->resolve(fate).ok()) {
        told_.reset();
        return;
    }
    operator_spoke_ = true;
    told_ = hosts_.source;
    gave_back_ = fate == Fate::kRefused;
    said_to_be_lost_ = fate == Fate::kNowhere;
    world.say(fmt::format("OPERATOR: it is {}", gave_back_         ? "at the source"
                                                : said_to_be_lost_ ? "lost with the destination"
                                                                   : "at the destination"));
    if (world.chance(40))
        world.after(world.between({}, seconds(5)), [this] {
            if (!would_spoil_the_word(Kind::kKillSource)) happen(Kind::kKillSource);
        });
}

}  // namespace godwit::sim
