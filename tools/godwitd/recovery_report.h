// What the report of a migration says that an earlier agent had begun as the source.
#pragma once

#include <cstdint>
#include <string>

#include "godwit/v1/report.pb.h"

namespace godwit {

// The guest belongs to the source, and is there.
void at_source(v1::MigrationReport& report, const std::string& reason);
// The destination has it.
void taken_over(v1::MigrationReport& report, const std::string& reason);
void died(v1::MigrationReport& report, const std::string& reason);
void needs_operator(v1::MigrationReport& report, const std::string& reason);

uint64_t unix_ms();
// What `last`, of this agent's part of a drain, leaves out: `before` is what its predecessor noted.
v1::Postcopy whole_drain(const v1::Postcopy& before, v1::Postcopy last, uint64_t resumed_unix_ms);

}  // namespace godwit
