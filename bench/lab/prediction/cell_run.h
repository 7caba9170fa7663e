// One cell of the grid: the guest is started, `godwit plan` asked, and the guest migrated as the
// cell says.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/lab/lab.h"
#include "bench/lab/prediction/grid.h"

namespace godwit {

// {"plan": what the plan said, "report": the migration's}, both whole. A migration that gave up
// because it did not converge is a result like any other. Errors: a guest that does not start, a
// plan that fails, a migration that fails for another reason; DataLoss when the guest finds an
// error in its memory; Cancelled.
absl::StatusOr<nlohmann::json> run_cell(const GridCell& cell, const LabSetup& setup,
                                        Duration sample);

// The calibration of the source's agent becomes `calibration`, as if its destination had always
// been at the address that it has now. The agent is started anew. Errors: its start's.
absl::Status put_calibration(AgentPair& agents, nlohmann::json calibration);
// What the source's agent knows; null where no migration was done yet.
nlohmann::json take_calibration(const AgentPair& agents);

}  // namespace godwit
