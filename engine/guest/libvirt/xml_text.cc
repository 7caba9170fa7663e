#include "engine/guest/libvirt/xml_text.h"

#include <fmt/format.h>

#include <sstream>

namespace godwit {
namespace {

bool is_too_deep(const pugi::xml_document& document) {
    size_t depth = 0;
    for (pugi::xml_node node = document.first_child(); node;) {
        if (node.first_child()) {
            if (++depth > kMaxDomainXmlDepth) return true;
            node = node.first_child();
            continue;
        }
        while (node && !node.next_sibling()) {
            node = node.parent();
            if (depth > 0) --depth;
        }
        if (node) node = node.next_sibling();
    }
    return false;
}

}  // namespace

absl::StatusOr<pugi::xml_document> parse_domain(const std::string& xml) {
    if (xml.size() > kMaxDomainXmlBytes)
        return absl::InvalidArgumentError(
            fmt::format("a domain's XML of {} bytes is too long", xml.size()));
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_buffer(xml.data(), xml.size());
    if (!parsed || !document.child("domain"))
        return absl::InvalidArgumentError(fmt::format(
            "not the XML of a domain: {}", parsed ? "another element" : parsed.description()));
    if (is_too_deep(document))
        return absl::InvalidArgumentError(
            fmt::format("a domain's XML with more than {} elements within each other is refused",
                        kMaxDomainXmlDepth));
    return document;
}

std::string domain_text(const pugi::xml_document& document) {
    std::ostringstream out;
    document.save(
        out, "  ",
        pugi::format_indent | pugi::format_no_declaration | pugi::format_attribute_single_quote);
    return out.str();
}

}  // namespace godwit
