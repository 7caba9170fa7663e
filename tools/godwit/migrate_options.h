// What `godwit migrate` can be told, and what other commands share with it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/godwit/agent_client.h"
#include "tools/godwit/exit_code.h"
#include "tools/godwit/words.h"

namespace godwit {

// What the command that was typed does, once all of it has been read.
using Action = std::function<ExitCode(AgentClient&)>;

// All must outlive `app`.
void add_tracker_option(CLI::App& command, Words& words);
CLI::Option* add_bandwidth_option(CLI::App& command, Words& words);
void add_migrate_command(CLI::App& app, Words& words, Action& action);

}  // namespace godwit
