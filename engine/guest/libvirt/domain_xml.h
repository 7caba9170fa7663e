// What a domain's XML says to us, and what we change in it: pure functions on libvirt's own text
// (https://libvirt.org/formatdomain.html).
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// The fields of a spec that the engine asks about, and the XML itself as `domain_xml`, without our
// own arguments. Error: InvalidArgument when it is no domain's XML.
absl::StatusOr<v1::VmSpec> spec_of_domain(const std::string& xml);

// The same domain, to be started so that it waits for device state. Error: as above.
absl::StatusOr<std::string> with_incoming(const std::string& xml);
// Takes out what with_incoming() put in; the same text when there is nothing of it.
absl::StatusOr<std::string> without_incoming(const std::string& xml);

// What of a running domain nobody may change while it moves, in one way of writing: memory, vCPUs
// and devices, without what the guest changes by itself. Empty when it is no domain's XML.
std::string fixed_parts_of(const std::string& xml);

// Where the resident of this domain's QEMU listens, as its environment says; empty where none is
// preloaded.
std::string resident_socket_of(const std::string& xml);

// Devices and settings with which it can't be moved, each by its alias and with the reason.
std::vector<std::string> domain_problems(const std::string& xml);
// Aliases of devices that give memory back by themselves.
std::vector<std::string> discarding_devices_of(const std::string& xml);

}  // namespace godwit
