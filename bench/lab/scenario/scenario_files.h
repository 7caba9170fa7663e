// The scenarios of a directory, and choosing among them.
#pragma once

#include <string>
#include <vector>

#include "bench/lab/scenario/scenario.h"

namespace godwit {

// Of all *.yaml files there, in the order of their names. Errors: NotFound; those of
// parse_scenarios(); InvalidArgument when two have the same name.
absl::StatusOr<std::vector<Scenario>> load_scenarios(const std::string& directory);

// Those that `words` name: a set (smoke, standard, full), a scenario, or a file's scenarios
// altogether ("sparse" for sparse/memory=4GiB); in their own order, none twice. "full" is all but
// the set smoke. Error: InvalidArgument, which says what there is.
absl::StatusOr<std::vector<Scenario>> choose(const std::vector<Scenario>& all,
                                             const std::vector<std::string>& words);

// Only rows where `SCENARIO: ROW` has a match of the regular expression; scenarios without rows
// are gone. Error: InvalidArgument for an expression that is none, or that matches nothing.
absl::StatusOr<std::vector<Scenario>> filter(std::vector<Scenario> scenarios,
                                             const std::string& expression);

}  // namespace godwit
