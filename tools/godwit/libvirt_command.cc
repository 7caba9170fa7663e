#include "tools/godwit/libvirt_command.h"

#include <fmt/format.h>

#include <filesystem>
#include <iostream>

#include "engine/guest/disks/same_disks.h"
#include "engine/guest/libvirt/connection.h"
#include "engine/guest/libvirt/domain_xml.h"
#include "engine/guest/libvirt/enable.h"
#include "engine/guest/libvirt/libvirt_hypervisor.h"
#include "engine/guest/libvirt/security.h"
#include "tools/godwit/render.h"

namespace godwit {
namespace {

ExitCode refuse(const LibvirtWords& words, const absl::Status& status) {
    if (*words.json) std::cout << json_text(error_json(status)) << std::endl;
    std::cerr << fmt::format("godwit: {}\n", std::string(status.message()));
    return ExitCode::kRefused;
}

struct Found {
    ConnectHandle connection;
    DomainHandle domain;
};

absl::StatusOr<Found> find(const LibvirtWords& words) {
    LibvirtConnection connection(words.uri);
    GODWIT_ASSIGN_OR_RETURN(ConnectHandle handle, connection.get());
    GODWIT_ASSIGN_OR_RETURN(DomainHandle domain, find_domain(handle, words.domain));
    return Found{std::move(handle), std::move(domain)};
}

absl::StatusOr<std::string> xml_of(virDomain* domain, unsigned int flags) {
    char* text = virDomainGetXMLDesc(domain, flags);
    if (text == nullptr) return libvirt_status("Cannot read the domain's XML");
    return take_text(text);
}

// Of a domain that runs: what QEMU was started with. Of another: what it will be started with.
absl::StatusOr<std::vector<std::string>> problems_of(const LibvirtWords& words, virDomain* domain) {
    if (virDomainIsActive(domain) == 1) {
        LibvirtHypervisor hypervisor(words.uri);
        GODWIT_ASSIGN_OR_RETURN(const std::shared_ptr<Vm> vm,
                                hypervisor.find(virDomainGetName(domain)));
        return vm->migration_blockers();
    }
    GODWIT_ASSIGN_OR_RETURN(const std::string xml, xml_of(domain, VIR_DOMAIN_XML_INACTIVE));
    std::vector<std::string> problems = domain_problems(xml);
    GODWIT_ASSIGN_OR_RETURN(const std::string enabled, enable_migration(xml));
    if (enabled != xml)
        problems.push_back(fmt::format(
            "its RAM will be private to QEMU: run godwit libvirt enable {}", words.domain));
    return problems;
}

// What a destination can't compare, and what it will refuse unless the two hosts share it.
void add_disk_notes(const DiskIdentities& disks, std::vector<std::string>& notes) {
    for (const v1::DiskIdentity& disk : disks)
        if (disk.id().empty())
            notes.push_back(fmt::format(
                "disk {} ({}): nothing tells a destination whether its disk of that path is the "
                "same; it has to be",
                disk.path().empty() ? "without a path" : disk.path(), disk.kind()));
}

// What confines its QEMU: where its RAM file is, libvirt's configuration says, which nobody can
// ask. What stays here and would start it a second time. Its disks; one that does not answer is one
// of the `problems`.
absl::StatusOr<std::vector<std::string>> notes_of(const Found& found,
                                                  std::vector<std::string>& problems) {
    char* text = virConnectGetCapabilities(found.connection.get());
    if (text == nullptr) return libvirt_status("Cannot read libvirt's capabilities");
    const std::string capabilities = take_text(text);
    GODWIT_ASSIGN_OR_RETURN(const std::string xml, xml_of(found.domain.get(), 0));
    GODWIT_ASSIGN_OR_RETURN(const SecurityModels models, security_models(capabilities, xml));
    std::vector<std::string> notes = security_notes(models, "");
    GODWIT_ASSIGN_OR_RETURN(const bool with_host, starts_with_host(found.domain.get()));
    if (with_host)
        notes.push_back(fmt::format(
            "it has autostart: after a move libvirt would start it here a second time when this "
            "host boots, unless its definition goes along (--persistent --undefine-source) or "
            "virsh autostart --disable {} is said",
            virDomainGetName(found.domain.get())));
    GODWIT_ASSIGN_OR_RETURN(const v1::VmSpec spec, spec_of_domain(xml));
    if (const auto disks = identities_of(spec, this_host()); disks.ok())
        add_disk_notes(*disks, notes);
    else
        problems.emplace_back(disks.status().message());
    return notes;
}

absl::StatusOr<std::string> changed_xml(const LibvirtWords& words, const std::string& before) {
    if (words.undo) return disable_migration(before);
    if (!words.resident) return enable_migration(before);
    std::error_code error;
    std::filesystem::path library = words.library;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    for (const char* place : {"libgodwit-resident.so", "../lib/godwit/libgodwit-resident.so"})
        if (library.empty() && std::filesystem::exists(self / place, error))
            library = (self / place).lexically_normal();
    if (!library.is_absolute() || !std::filesystem::exists(library, error))
        return absl::NotFoundError(
            "libgodwit-resident.so is not there: say --library and its absolute path");
    return enable_resident(before, library.string());
}

// What `enable` did, or would do.
ExitCode print_change(const LibvirtWords& words, bool changed, const std::string& difference,
                      const std::string& what) {
    if (*words.json)
        std::cout << json_text({{"domain", words.domain},
                                {"changed", changed},
                                {"difference", difference},
                                {"message", what}})
                  << std::endl;
    else
        std::cout << difference << what << "\n";
    return ExitCode::kDone;
}

}  // namespace

ExitCode libvirt_check(const LibvirtWords& words) {
    const absl::StatusOr<Found> found = find(words);
    if (!found.ok()) return refuse(words, found.status());
    auto problems = problems_of(words, found->domain.get());
    if (!problems.ok()) return refuse(words, problems.status());
    const auto notes = notes_of(*found, *problems);
    if (!notes.ok()) return refuse(words, notes.status());
    const bool runs = virDomainIsActive(found->domain.get()) == 1;
    const ExitCode code = problems->empty() ? ExitCode::kDone : ExitCode::kRefused;
    if (*words.json) {
        std::cout << json_text({{"domain", virDomainGetName(found->domain.get())},
                                {"running", runs},
                                {"can_be_moved", problems->empty()},
                                {"problems", *problems},
                                {"notes", *notes}})
                  << std::endl;
        return code;
    }
    for (const std::string& problem : *problems) std::cout << problem << "\n";
    for (const std::string& note : *notes) std::cout << "note: " << note << "\n";
    if (!problems->empty()) return code;
    std::cout << fmt::format("{} can be moved{}\n", words.domain,
                             runs ? "" : " once it runs; where its RAM is, is seen then");
    return ExitCode::kDone;
}

ExitCode libvirt_enable(const LibvirtWords& words) {
    const absl::StatusOr<Found> found = find(words);
    if (!found.ok()) return refuse(words, found.status());
    virDomain* domain = found->domain.get();
    if (virDomainIsPersistent(domain) != 1)
        return refuse(words,
                      absl::FailedPreconditionError(fmt::format(
                          "{} has no definition to be changed: it is transient", words.domain)));
    const auto before = xml_of(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    if (!before.ok()) return refuse(words, before.status());
    const auto after = changed_xml(words, *before);
    if (!after.ok()) return refuse(words, after.status());
    if (*after == *before)
        return print_change(words, false, "", fmt::format("{} needs no change", words.domain));
    const std::string difference = line_diff(*before, *after);
    if (!words.yes)
        return print_change(words, false, difference, "Nothing was changed yet: say --yes");
    const DomainHandle defined(virDomainDefineXML(found->connection.get(), after->c_str()));
    if (!defined) return refuse(words, libvirt_status("Cannot change the domain's definition"));
    return print_change(
        words, true, difference,
        fmt::format(
            "{} is changed; {}", words.domain,
            virDomainIsActive(domain) == 1
                ? "it runs on as it was started: this takes effect when it is shut down and "
                  "started"
                : "this takes effect when it is started"));
}

void add_libvirt_commands(CLI::App& app, LibvirtWords& words, LocalAction& action) {
    CLI::App* libvirt =
        app.add_subcommand("libvirt", "What a domain of libvirt needs to be moved; asks no agent");
    libvirt->require_subcommand(1);
    libvirt->add_option("-c,--connect", words.uri, "URI of libvirt, as virsh has it")
        ->capture_default_str();
    CLI::App* check = libvirt->add_subcommand("check", "Say what is in the way of moving a domain");
    check->add_option("DOMAIN", words.domain, "Name or UUID")->required();
    check->footer("Example:\n  godwit libvirt check web --json | jq '.problems[]'");
    check->callback([&] { action = [&words] { return libvirt_check(words); }; });
    CLI::App* enable = libvirt->add_subcommand(
        "enable", "Change a domain's definition so that it can be moved after its next start");
    enable->add_option("DOMAIN", words.domain, "Name or UUID")->required();
    enable->add_flag("--undo", words.undo, "Put back what was changed");
    enable->add_flag("--resident", words.resident,
                     "Also preload Godwit's library into its QEMU, for KVM's dirty log");
    enable->add_option("--library", words.library,
                       "Its absolute path, the same on all hosts (default: beside this program)");
    enable->add_flag("--yes", words.yes, "Do it; without, only the difference is shown");
    enable->footer("Example:\n  godwit libvirt enable web --yes");
    enable->callback([&] { action = [&words] { return libvirt_enable(words); }; });
}

}  // namespace godwit
