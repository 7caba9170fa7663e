// What confines a domain's QEMU on this host, and what that means for a migration.
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

struct SecurityModels {
    std::vector<std::string> host;    // in force: "apparmor", "selinux", "dac", …
    std::vector<std::string> domain;  // those that confine this domain
};

// From libvirt's capabilities and the domain's live XML (or its definition: then what will confine
// it). Error: InvalidArgument when either is something else.
absl::StatusOr<SecurityModels> security_models(const std::string& capabilities,
                                               const std::string& domain_xml);

// What the operator must see to, one sentence each; empty where nothing confines the domain but
// file owners. `memory_directory`: where its RAM file is, or empty where that is not known.
std::vector<std::string> security_notes(const SecurityModels& models,
                                        const std::string& memory_directory);

}  // namespace godwit
