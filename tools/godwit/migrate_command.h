// `godwit migrate` and `godwit watch`: start, follow, cancel on Ctrl-C, summarise.
#pragma once

#include <string>

#include "godwit/v1/agent.pb.h"
#include "tools/godwit/agent_client.h"
#include "tools/godwit/exit_code.h"

namespace godwit {

struct FollowOptions {
    bool json = false;              // the report as JSON on stdout, nothing else there
    bool cancel_on_signal = false;  // Ctrl-C cancels; else it only stops watching
};

// Starts the migration and follows it to its end.
ExitCode run_migrate(AgentClient& agent, const v1::MigrateRequest& request, bool detach, bool json);
ExitCode follow(AgentClient& agent, const std::string& migration, const FollowOptions& options);
// Prints a report: the summary to stdout, or JSON; the verdict of one that has ended to stderr.
ExitCode print_report(const v1::MigrationReport& report, bool json);
// Prints "godwit: <message>" to stderr; with `json` also an object to stdout: error, reason,
// guest_at, retry_safe.
ExitCode print_error(const absl::Status& status, bool json);

}  // namespace godwit
