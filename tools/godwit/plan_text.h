// What people read of predictions: a plan, a migration's, and what earlier ones came to.
#pragma once

#include <string>

#include "godwit/v1/plan.pb.h"

namespace godwit {

// A row for each strategy, what was measured, and the answer on the last line.
std::string plan_text(const v1::Plan& plan);
// Predicted beside actual, a line for each migration.
std::string calibration_text(const v1::Calibration& calibration);
// One line, for a migration's summary.
std::string prediction_text(const v1::MigrationReport& report);

}  // namespace godwit
