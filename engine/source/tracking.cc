#include "engine/source/tracking.h"

#include <fmt/format.h>

namespace godwit {

void name_tracker(const DirtyTracker& tracker, v1::MigrationReport& report) {
    report.set_tracker(std::string(tracker.name()));
    report.set_tracker_reason(tracker.reason());
}

absl::Status start_tracker(SourceContext& context) {
    DirtyTracker& tracker = *context.tracker;
    GODWIT_RETURN_IF_ERROR(tracker.start());
    name_tracker(tracker, context.report);
    for (const std::string& warning : tracker.warnings()) context.report.add_warnings(warning);
    if (tracker.sees_discards()) return absl::OkStatus();
    for (const std::string& device : context.vm.discarding_devices())
        context.report.add_warnings(fmt::format(
            "{} gives memory back unseen: pages that it discards are not checked by verify",
            device));
    return absl::OkStatus();
}

}  // namespace godwit
