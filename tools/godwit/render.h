// What people read: the progress line, the summary, tables.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/status.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

// One line, no line end: "round 3  [#####.....]  45 %  1.20 GiB/s  dirty 20,000 pages/s  r 0.07 …".
std::string progress_line(const v1::Progress& progress);
// One line for a finished round.
std::string round_line(const v1::Round& round);
// The rounds as a table, the pause split into its parts, bytes, verify.
std::string summary(const v1::MigrationReport& report);
// The last line of stderr: how it ended and why, where the guest is, whether a retry is safe.
std::string verdict(const v1::MigrationReport& report);
// The same for a migration of `vm` that the agent did not begin, or whose beginning was not heard.
std::string refusal(const absl::Status& error, const std::string& vm);
// An error as an object: error, reason, guest_at, retry_safe (the last two only when known).
nlohmann::ordered_json error_json(const absl::Status& error);
// What --json prints. Of names that are no UTF-8 (a path, a word of the command line) it has
// U+FFFD.
std::string json_text(const nlohmann::ordered_json& json);
std::string vm_table(const v1::ListVmsResponse& vms);
std::string migration_table(const v1::ListMigrationsResponse& migrations);
std::string vm_text(const v1::VmInfo& vm);
// The curve as a table, and which tracker measured it.
std::string dirty_rate_text(const v1::DirtyRate& rate);
std::string host_text(const v1::Host& host);

}  // namespace godwit
