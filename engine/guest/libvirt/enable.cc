#include "engine/guest/libvirt/enable.h"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>
#include <vector>

#include "dirty-tracking/resident/protocol.h"
#include "engine/guest/libvirt/xml_text.h"

namespace godwit {
namespace {

constexpr const char* kMetadataNamespace = "https://godwit.dev/libvirt/1";
constexpr const char* kPreload = "LD_PRELOAD";
constexpr const char* kBefore = "godwit:before";

bool has_value(const pugi::xml_node& node, const char* attribute, const char* value) {
    return std::string_view(node.attribute(attribute).value()) == value;
}

bool is_fit(const pugi::xml_node& backing) {
    return !backing.child("hugepages") && has_value(backing.child("source"), "type", "file") &&
           has_value(backing.child("access"), "mode", "shared");
}

pugi::xml_node child_of(pugi::xml_node parent, const char* name) {
    const pugi::xml_node child = parent.child(name);
    return child ? child : parent.append_child(name);
}

void set(pugi::xml_node node, const char* attribute, const char* value) {
    node.remove_attribute(attribute);
    node.append_attribute(attribute).set_value(value);
}

pugi::xml_node variable_of(const pugi::xml_node& domain, const char* name) {
    for (const pugi::xml_node& variable : domain.child("qemu:commandline").children("qemu:env"))
        if (has_value(variable, "name", name)) return variable;
    return {};
}

void add_variable(pugi::xml_node domain, const char* name, const std::string& value) {
    pugi::xml_node variable = child_of(domain, "qemu:commandline").append_child("qemu:env");
    variable.append_attribute("name").set_value(name);
    variable.append_attribute("value").set_value(value.c_str());
}

// What enable_resident() put in; false: there was nothing of it.
bool remove_resident(pugi::xml_node domain) {
    const pugi::xml_node socket = variable_of(domain, resident::kPathVariable);
    if (!socket) return false;
    pugi::xml_node line = domain.child("qemu:commandline");
    line.remove_child(socket);
    line.remove_child(variable_of(domain, kPreload));
    if (line.first_child()) return true;
    domain.remove_child(line);
    domain.remove_attribute("xmlns:qemu");
    return true;
}

std::string in_one_way(const std::string& xml) {
    const absl::StatusOr<pugi::xml_document> document = parse_domain(xml);
    return document.ok() ? domain_text(*document) : xml;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines(1);
    for (const char c : text) {
        if (c == '\n')
            lines.emplace_back();
        else
            lines.back() += c;
    }
    if (lines.back().empty()) lines.pop_back();
    return lines;
}

}  // namespace

absl::StatusOr<std::string> enable_migration(const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(xml));
    pugi::xml_node domain = document.child("domain");
    if (is_fit(domain.child("memoryBacking"))) return xml;
    // Kept as it was, for the way back.
    pugi::xml_node metadata = domain.child("metadata");
    if (!metadata) metadata = domain.insert_child_after("metadata", domain.child("uuid"));
    while (metadata.remove_child(kBefore)) continue;
    pugi::xml_node before = metadata.append_child(kBefore);
    before.append_attribute("xmlns:godwit").set_value(kMetadataNamespace);
    pugi::xml_node backing = domain.child("memoryBacking");
    if (backing) {
        for (const pugi::xml_node& part : backing.children()) before.append_copy(part);
    } else {
        backing = domain.insert_child_after("memoryBacking", domain.child("memory"));
    }
    backing.remove_child("hugepages");
    set(child_of(backing, "source"), "type", "file");
    set(child_of(backing, "access"), "mode", "shared");
    return domain_text(document);
}

absl::StatusOr<std::string> enable_resident(const std::string& xml, const std::string& library) {
    GODWIT_ASSIGN_OR_RETURN(const std::string enabled, enable_migration(xml));
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(enabled));
    pugi::xml_node domain = document.child("domain");
    if (variable_of(domain, resident::kPathVariable)) return enabled;
    if (const pugi::xml_node other = variable_of(domain, kPreload))
        return absl::FailedPreconditionError(fmt::format(
            "{} is preloaded into its QEMU already, by <qemu:env name='LD_PRELOAD'>: take it out",
            other.attribute("value").value()));
    set(domain, "xmlns:qemu", kQemuNamespace);
    add_variable(domain, kPreload, library);
    add_variable(domain, resident::kPathVariable,
                 fmt::format("{}/{}.sock", kResidentDirectory, domain.child("uuid").text().get()));
    return domain_text(document);
}

absl::StatusOr<std::string> disable_migration(const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(pugi::xml_document document, parse_domain(xml));
    pugi::xml_node domain = document.child("domain");
    const bool had_resident = remove_resident(domain);
    pugi::xml_node metadata = domain.child("metadata");
    const pugi::xml_node before = metadata.child(kBefore);
    if (!before && had_resident) return domain_text(document);
    if (!before)
        return absl::FailedPreconditionError(
            "there is nothing to undo: godwit libvirt enable did not change this domain");
    pugi::xml_node backing = child_of(domain, "memoryBacking");
    backing.remove_children();
    for (const pugi::xml_node& part : before.children()) backing.append_copy(part);
    if (!backing.first_child()) domain.remove_child(backing);
    metadata.remove_child(before);
    if (!metadata.first_child()) domain.remove_child(metadata);
    return domain_text(document);
}

std::string line_diff(const std::string& before, const std::string& after) {
    const std::vector<std::string> old_lines = lines_of(in_one_way(before));
    const std::vector<std::string> new_lines = lines_of(in_one_way(after));
    const size_t rows = old_lines.size();
    const size_t columns = new_lines.size();
    // longest[i][j]: of the common subsequences from line i and line j on. A domain has hundreds.
    std::vector<std::vector<size_t>> longest(rows + 1, std::vector<size_t>(columns + 1));
    for (size_t i = rows; i-- > 0;)
        for (size_t j = columns; j-- > 0;)
            longest[i][j] = old_lines[i] == new_lines[j]
                                ? longest[i + 1][j + 1] + 1
                                : std::max(longest[i + 1][j], longest[i][j + 1]);
    std::vector<std::string> all;
    size_t i = 0;
    size_t j = 0;
    while (i < rows || j < columns) {
        if (i < rows && j < columns && old_lines[i] == new_lines[j]) {
            all.push_back("  " + old_lines[i++]);
            ++j;
        } else if (j == columns || (i < rows && longest[i + 1][j] >= longest[i][j + 1])) {
            all.push_back("- " + old_lines[i++]);
        } else {
            all.push_back("+ " + new_lines[j++]);
        }
    }
    std::string text;
    for (size_t line = 0; line < all.size(); ++line) {
        const size_t first = line == 0 ? 0 : line - 1;
        const size_t last = std::min(line + 2, all.size());
        if (std::any_of(all.begin() + static_cast<long>(first),
                        all.begin() + static_cast<long>(last),
                        [](const std::string& near) { return near.front() != ' '; }))
            text += all[line] + "\n";
    }
    return text;
}

}  // namespace godwit
