// VM files: what a user writes in YAML, as a VmSpec.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// Reads one VM file. `name` and `memory` are required; everything else has the default that
// vm.proto names, and a disk without `format` is qcow2 when its path ends so, else raw (images are
// never probed: their content is the guest's to write). Paths relative to the file become absolute.
// Sizes are "1GiB", "512M", … Errors: NotFound and PermissionDenied for the file itself, and
// InvalidArgument "<file>:<line>: <field>: <what is wrong>" for the first fault in it: no YAML,
// unknown or repeated keys, wrong types, or a broken rule of validate_spec().
absl::StatusOr<v1::VmSpec> read_vm_file(const std::string& path);

// The same for text that is already read; `path` names it in errors and resolves relative paths.
absl::StatusOr<v1::VmSpec> parse_vm_file(const std::string& text, const std::string& path);

}  // namespace godwit
