// Logging: spdlog behind one include; the agent's log goes to stderr, one line per event.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace godwit {

// Sets the pattern and the level ("debug", "info", "warn", "error") of the process's log.
// Returns false when the level is none of these; the level is then unchanged.
bool start_logging(std::string_view program, std::string_view level);

}  // namespace godwit
