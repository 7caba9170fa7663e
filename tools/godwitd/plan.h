// `godwit plan`: what migrating a VM would be like, measured and predicted; nothing is moved.
#pragma once

#include <functional>
#include <vector>

#include "engine/guest/hypervisor.h"
#include "engine/model/calibration.h"
#include "engine/source/link_probe.h"
#include "engine/source/ram_sample.h"
#include "godwit/v1/plan.pb.h"
#include "tools/godwitd/plan_settings.h"

namespace godwit {

// What the agent has for every plan.
struct PlanContext {
    std::string source;               // HOST:PORT of this agent
    std::vector<PastMigration> past;  // of this host pair
    RingKind ring = RingKind::kIoUring;
    ThreadPlacement placement;
    std::function<bool()> cancelled;  // asked every 100 ms
};

// Probes the link, reads samples of the RAM, watches what the guest writes; then predicts. The VM
// is held by the caller. Nothing is armed, connected or changed when it returns. Errors: those of
// probe_link(), sample_ram(), the tracker; FailedPrecondition where the VM can't be migrated;
// NotFound when the VM ended; Cancelled.
absl::StatusOr<v1::Plan> plan_migration(Vm& vm, const PlanSettings& settings,
                                        const PlanContext& context);

// The pure part. What was measured:
struct PlanFacts {
    LinkProbe link;
    RamSample ram;
    std::vector<DirtySample> samples;
    double vcpu_busy_share = 0;  // of the time of all vCPUs while the guest was watched
    uint32_t vcpus = 1;
    Backing backing = Backing::kTmpfs4k;  // of most of the RAM
    bool rearms_as_read = false;          // the tracker does
    uint32_t source_cpus = 1;
};
// The model's input, and what is known of the pair, as it was used.
PlanInput plan_input(const PlanFacts& facts, const PairKnowledge& knowledge,
                     const PlanSettings& settings);
// Costs where no migration of the pair is known: as measured, plus round trips.
MigrationCosts default_costs(const LinkProbe& link);
// Fills measured, rows, chosen and sentence.
absl::Status fill_plan(const PlanFacts& facts, const std::vector<PastMigration>& past,
                       const PlanSettings& settings, v1::Plan& answer);

}  // namespace godwit
