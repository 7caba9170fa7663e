// A domain's XML, from text and to text.
#pragma once

#include <pugixml.hpp>
#include <string>

#include "engine/base/status.h"

namespace godwit {

// The largest XML that is taken from a peer.
inline constexpr size_t kMaxDomainXmlBytes = size_t{1} << 20;
// Of elements that libvirt hands through to QEMU.
inline constexpr const char* kQemuNamespace = "http://libvirt.org/schemas/domain/qemu/1.0";

// Elements within elements; libvirt's own go to ten or so. Removing a node recurses, and an
// indented text grows with the square of the depth.
inline constexpr size_t kMaxDomainXmlDepth = 100;

// Error: InvalidArgument when it is no domain's XML, too long, or too deep.
absl::StatusOr<pugi::xml_document> parse_domain(const std::string& xml);
// Indented as libvirt does it.
std::string domain_text(const pugi::xml_document& document);

}  // namespace godwit
