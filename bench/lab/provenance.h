// Where a number comes from: what makes it worth keeping.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace godwit {

// Git revision (with "-dirty"), kernel, CPU and their number, QEMU's version, huge-page setting,
// load and time. What cannot be found out is "unknown".
nlohmann::json provenance(const std::string& qemu);

// "QEMU emulator version 7.2.22 (Debian …)" without what is the same for all; the first line
// otherwise.
std::string qemu_version_said(const std::string& output);

}  // namespace godwit
