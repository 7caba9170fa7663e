// Engines of a scenario file: one entry is a row for each point of its sweep.
#pragma once

#include <vector>

#include "bench/lab/scenario/scenario.h"
#include "engine/guest/vm_file/yaml_fields.h"

namespace godwit {

// `guest` over what `base` has. Faults go to `file`.
GuestConfig read_guest(YamlFile& file, const YAML::Node& node, const std::string& field,
                       GuestConfig base);

// The rows of one entry of `engines:`; `base` has the guest and what all rows have alike.
std::vector<Row> read_rows(YamlFile& file, const YAML::Node& entry, const std::string& field,
                           const Row& base);

// What text means, else a fault of the field and the value that was there before.
Duration read_duration(const YamlFields& fields, const char* key, Duration otherwise);
Bytes read_rate(const YamlFields& fields, const char* key, Bytes otherwise);

}  // namespace godwit
