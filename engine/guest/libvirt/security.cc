#include "engine/guest/libvirt/security.h"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>

#include "engine/guest/libvirt/xml_text.h"

namespace godwit {
namespace {

bool holds(const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::string text_of(const pugi::xml_attribute& attribute) { return attribute.value(); }

// The host's models that no <seclabel type='none'> takes off this domain.
std::vector<std::string> confining(const std::vector<std::string>& host,
                                   const pugi::xml_node& domain) {
    std::vector<std::string> models = host;
    for (const pugi::xml_node& label : domain.children("seclabel")) {
        if (text_of(label.attribute("type")) != "none") continue;
        const std::string model = text_of(label.attribute("model"));
        // Without a model: the first of the host's.
        std::erase(models, !model.empty() ? model : host.empty() ? std::string() : host.front());
    }
    return models;
}

}  // namespace

absl::StatusOr<SecurityModels> security_models(const std::string& capabilities,
                                               const std::string& domain_xml) {
    pugi::xml_document document;
    if (!document.load_string(capabilities.c_str()) || !document.child("capabilities"))
        return absl::InvalidArgumentError("libvirt's capabilities are no such XML");
    GODWIT_ASSIGN_OR_RETURN(const pugi::xml_document domain, parse_domain(domain_xml));
    SecurityModels models;
    for (const pugi::xml_node& model :
         document.child("capabilities").child("host").children("secmodel")) {
        const std::string name = model.child("model").text().get();
        if (!name.empty() && name != "none") models.host.push_back(name);
    }
    models.domain = confining(models.host, domain.child("domain"));
    return models;
}

std::vector<std::string> security_notes(const SecurityModels& models,
                                        const std::string& memory_directory) {
    const std::string directory =
        memory_directory.empty() ? "libvirt's memory_backing_dir" : memory_directory;
    std::vector<std::string> notes;
    if (holds(models.domain, "apparmor"))
        notes.push_back(fmt::format(
            "AppArmor confines it: allow its profile (/etc/apparmor.d/local/abstractions/"
            "libvirt-qemu) \"{}/** rwk,\" and \"ptrace (tracedby),\", and run godwitd unconfined",
            directory));
    if (holds(models.domain, "selinux"))
        notes.push_back(fmt::format(
            "SELinux confines it: godwitd needs a domain that may ptrace svirt_t and read and "
            "write "
            "svirt_image_t in {}, as unconfined_t may; mount that tmpfs without a context= option",
            directory));
    if (holds(models.domain, "apparmor") || holds(models.domain, "selinux"))
        notes.emplace_back(
            "Godwit was not tried where these are enforced: move a domain that "
            "nobody misses first");
    return notes;
}

}  // namespace godwit
