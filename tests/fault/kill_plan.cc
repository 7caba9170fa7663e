#include "tests/fault/kill_plan.h"

#include <fmt/format.h>

#include <random>
#include <vector>

#include "engine/handover/step_hook.h"

namespace godwit::testing {
namespace {

constexpr const char* kStrategies[] = {"hybrid", "precopy", "postcopy", "stop-and-copy"};
constexpr const char* kTrackers[] = {"auto", "uffd-wp"};

// Not by a distribution of the library: a seed means the same with any.
class Draws {
  public:
    explicit Draws(uint64_t seed) : random_(seed) {}
    int64_t between(int64_t least, int64_t most) {
        return least + static_cast<int64_t>(random_() % static_cast<uint64_t>(most - least + 1));
    }
    Duration ms(int64_t least, int64_t most) {
        return std::chrono::milliseconds(between(least, most));
    }

  private:
    std::mt19937_64 random_;
};

struct StepOf {
    std::string_view step;
    bool at_source;
};

// Those that a migration of that strategy reaches.
std::vector<StepOf> steps_of(const KillPlan& plan) {
    std::vector<StepOf> steps;
    for (const auto step :
         {step::kPrepared, step::kGuardStarted, step::kGuardArmed, step::kFrozen,
          step::kLastPagesSent, step::kDeviceStateLeaves, step::kLoaded, step::kWordDecided,
          step::kCommitSent, step::kResumedSeen, step::kConcluded})
        steps.push_back({step, true});
    for (const auto step :
         {step::kIncoming, step::kStreamsAccepted, step::kDeviceStateCame, step::kLoadDone,
          step::kCommitCame, step::kContNoted, step::kContDone, step::kResumedSent})
        steps.push_back({step, false});
    if (plan.verify) steps.push_back({step::kVerified, true});
    if (plan.strategy == "precopy" || plan.strategy == "hybrid")
        steps.push_back({step::kRoundSent, true});
    if (plan.strategy == "postcopy") {
        for (const auto step : {step::kPunchedEarly, step::kDraining, step::kDrained})
            steps.push_back({step, true});
        for (const auto step : {step::kArmed, step::kServing, step::kLastPageCame})
            steps.push_back({step, false});
    }
    return steps;
}

void draw_moment(KillPlan& plan, Draws& draws) {
    // Much of a migration's time is not where it is in most danger.
    const int64_t kind = draws.between(0, 5);
    plan.moment = kind < 2 ? Moment::kAnywhere : kind < 4 ? Moment::kNearPause : Moment::kAtStep;
    plan.part = static_cast<double>(draws.between(0, 1050)) / 1000;
    plan.after = draws.ms(0, 150);
    const std::vector<StepOf> steps = steps_of(plan);
    const StepOf& at =
        steps[static_cast<size_t>(draws.between(0, static_cast<int64_t>(steps.size()) - 1))];
    plan.step = at.step;
    plan.step_at_source = at.at_source;
}

void draw_extent(KillPlan& plan, Draws& draws) {
    // A blink, what most limits bridge, and now and then what ends connections and patience.
    const int64_t kind = draws.between(0, 11);
    plan.length = kind == 0  ? draws.ms(9'000, 14'000)
                  : kind < 7 ? draws.ms(0, 300)
                             : draws.ms(300, 2'500);
    // These bite only where something is to be written, or sent, meanwhile.
    const Fault fault = plan.kind.fault;
    if (fault == Fault::kFullDisk || fault == Fault::kFullRam || fault == Fault::kCrowdedLink)
        plan.length = draws.ms(300, 4'000);
    const int64_t step = draws.between(0, 2);
    plan.clock_step = step == 0   ? std::chrono::hours(1)
                      : step == 1 ? std::chrono::hours(24 * 30)
                                  : -std::chrono::hours(1);
    plan.room = static_cast<Bytes>(draws.between(0, 6)) << 20;
    if (plan.kind.victim != Victim::kSourceLibvirtd &&
        plan.kind.victim != Victim::kDestinationLibvirtd)
        return;
    // Longer than the agents wait for an answer of libvirtd.
    if (kind == 0) plan.length = draws.ms(9'000, 25'000);
    plan.agent_too = draws.between(0, 3) == 0;
}

const char* name_of(Fault fault) {
    switch (fault) {
        case Fault::kKill:
            return "kill";
        case Fault::kStop:
            return "stop";
        case Fault::kRestart:
            return "restart";
        case Fault::kOutOfMemory:
            return "out-of-memory";
        case Fault::kClock:
            return "clock";
        case Fault::kCut:
            return "cut";
        case Fault::kHalfOpen:
            return "half-open";
        case Fault::kCrowdedLink:
            return "crowded-link";
        case Fault::kFullDisk:
            return "full-disk";
        case Fault::kFullRam:
            return "full-ram";
    }
    return "?";
}

const char* name_of(Victim victim) {
    switch (victim) {
        case Victim::kSourceAgent:
            return "source-agent";
        case Victim::kDestinationAgent:
            return "destination-agent";
        case Victim::kGuard:
            return "guard";
        case Victim::kSourceQemu:
            return "source-qemu";
        case Victim::kDestinationQemu:
            return "destination-qemu";
        case Victim::kSourceLibvirtd:
            return "source-libvirtd";
        case Victim::kDestinationLibvirtd:
            return "destination-libvirtd";
    }
    return "?";
}

std::string when(const KillPlan& plan) {
    switch (plan.moment) {
        case Moment::kAnywhere:
            return fmt::format("after {:.3f} of its time", plan.part);
        case Moment::kNearPause:
            return fmt::format("{:.0f} ms after the freeze began", to_ms(plan.after));
        case Moment::kAtStep:
            return fmt::format("at {} of the {}", plan.step,
                               plan.step_at_source ? "source" : "destination");
    }
    return "?";
}

}  // namespace

KillPlan draw_plan(uint64_t seed, std::span<const KillKind> kinds) {
    Draws draws(seed);
    KillPlan plan{.seed = seed};
    plan.kind =
        kinds[static_cast<size_t>(draws.between(0, static_cast<int64_t>(kinds.size()) - 1))];
    plan.strategy = kStrategies[draws.between(0, 3)];
    plan.tracker = kTrackers[draws.between(0, 1)];
    plan.verify = draws.between(0, 2) == 0;
    draw_moment(plan, draws);
    draw_extent(plan, draws);
    return plan;
}

uint64_t next_seed_of(uint64_t seed, KillKind kind, std::span<const KillKind> kinds) {
    while (draw_plan(seed, kinds).kind != kind) ++seed;
    return seed;
}

std::string describe(KillKind kind) {
    return fmt::format("{} {}", name_of(kind.fault), name_of(kind.victim));
}

std::string describe(const KillPlan& plan) {
    return fmt::format("GODWIT_FAULT_SEED={}: {} {}{}: {}{}, {}, for {:.0f} ms", plan.seed,
                       plan.strategy, plan.tracker, plan.verify ? " --verify" : "",
                       describe(plan.kind), plan.agent_too ? " and its agent" : "", when(plan),
                       to_ms(plan.length));
}

}  // namespace godwit::testing
