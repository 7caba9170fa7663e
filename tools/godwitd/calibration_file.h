// CalibrationFile: what was predicted of this agent's migrations and what came, by destination.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/calibration.h"
#include "engine/source/settings.h"
#include "godwit/v1/plan.pb.h"

namespace godwit {

// Thread-safe. <state>/calibration.json, a Calibration as JSON, replaced atomically at the end of
// each migration that was done. It is advice: what can't be read is begun anew, and a host that
// dies may lose the last entries.
class CalibrationFile {
  public:
    explicit CalibrationFile(const std::string& state_dir);

    // A plan was made: its predictions are those of a migration that follows it.
    void expect(const v1::Plan& plan);
    // The prediction for a migration as it was planned: the same VM, destination, strategy,
    // downtime limit and bandwidth, and not long ago. Taken out.
    std::optional<v1::Prediction> take_expected(const std::string& vm,
                                                const MigrationSettings& settings);

    // A migration has ended; does nothing unless it was done by Godwit itself.
    void note(const v1::MigrationReport& report);

    // Of one destination, or of all when it is empty.
    v1::Calibration history(const std::string& destination);
    // The same for a plan.
    std::vector<PastMigration> past(const std::string& destination);

    static constexpr int kMostPairs = 64;       // the one that was used longest ago goes first
    static constexpr int kMostMigrations = 32;  // of a pair
    static constexpr size_t kMostPlans = 64;    // that wait for their migrations

  private:
    struct Expected {
        v1::Plan plan;
        MonotonicTime at;
    };

    const std::string path_;
    std::mutex mutex_;
    v1::Calibration calibration_;     // guarded by mutex_
    std::vector<Expected> expected_;  // oldest first; guarded by mutex_
};

inline constexpr uint32_t kCalibrationVersion = 1;
// Prediction.predicted_by of what a plan said.
inline constexpr const char* kPredictedByPlan = "plan";

// Errors: DataLoss (damaged), FailedPrecondition (another version).
absl::StatusOr<v1::Calibration> decode_calibration(const std::string& text);

// What a report tells: nothing of a migration that was not done, or not by Godwit.
std::optional<v1::CalibrationEntry> calibration_entry(const v1::MigrationReport& report);
// What is to be learnt from it.
PastMigration past_migration(const v1::CalibrationEntry& entry);
// The entry goes to its pair, which becomes the last; what is too much is dropped.
void add_entry(v1::Calibration& calibration, const std::string& destination,
               const v1::CalibrationEntry& entry);

}  // namespace godwit
