// What people read: the progress line, the summary, tables.
#pragma once

#include <string>

#include "godwit/v1/agent.pb.h"

namespace godwit {

// One line, no line end: "round 3  [#####.....]  45 %  1.20 GiB/s  dirty 20,000 pages/s  r 0.07 …".
std::string progress_line(const v1::Progress& progress);
// One line for a finished round.
std::string round_line(const v1::Round& round);
// The rounds as a table, the pause split into its parts, bytes, verify.
std::string summary(const v1::MigrationReport& report);
// The last line of stderr when it did not go well: why, where the guest is, whether to retry.
std::string verdict(const v1::MigrationReport& report);
std::string vm_table(const v1::ListVmsResponse& vms);
std::string migration_table(const v1::ListMigrationsResponse& migrations);
std::string vm_text(const v1::VmInfo& vm);
std::string host_text(const v1::Host& host);

}  // namespace godwit
