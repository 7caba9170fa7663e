#include "engine/guest/libvirt/libvirt_hypervisor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <pugixml.hpp>

#include "engine/base/log.h"
#include "engine/guest/disks/file_look.h"
#include "engine/guest/libvirt/domain_ram.h"
#include "engine/guest/libvirt/domain_xml.h"
#include "engine/guest/libvirt/late_calls.h"
#include "engine/guest/qemu/kvm_probe.h"
#include "engine/guest/qemu/qmp_message.h"
#include "engine/guest/qemu/qmp_replies.h"

namespace godwit {
namespace {

constexpr Duration kCreateLimit = std::chrono::seconds(25);
constexpr Duration kStartLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);
// For a libvirtd that was restarted. The source waits 30 s for its answer.
constexpr Duration kRegainLimit = std::chrono::seconds(25);
constexpr Duration kRegainPause = std::chrono::milliseconds(200);

bool runs(virDomain* domain) { return virDomainIsActive(domain) == 1; }

// Whether that process is a QEMU of this domain.
bool is_qemu_of(pid_t pid, const std::string& uuid) {
    const absl::StatusOr<std::vector<std::string>> argv = arguments_of(pid);
    if (!argv.ok()) return false;
    for (size_t i = 0; i + 1 < argv->size(); ++i)
        if ((*argv)[i] == "-uuid" && (*argv)[i + 1] == uuid) return true;
    return false;
}

// libvirt's pid file; 0 when it is elsewhere.
pid_t pid_from_file(const std::string& root, const std::string& name) {
    pid_t pid = 0;
    std::ifstream(
        fmt::format("{}/run/{}qemu/{}.pid", root, root.empty() ? "libvirt/" : "", name)) >>
        pid;
    return pid;
}

// Of an embedded libvirt: where QEMU's monitor is, from libvirt's own record of the domain's run.
absl::StatusOr<std::string> monitor_from_record(const std::string& root, const std::string& name) {
    const std::string record = fmt::format("{}/run/qemu/{}.xml", root, name);
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_file(record.c_str());
    std::string path = document.child("domstatus").child("monitor").attribute("path").value();
    if (path.empty())
        return absl::NotFoundError(fmt::format("Cannot read from {} where QEMU's monitor is: {}",
                                               record, parsed.description()));
    return path;
}

// The thread group of a vCPU's thread, as QEMU names it.
absl::StatusOr<pid_t> pid_from_monitor(virDomain* domain) {
    char* text = nullptr;
    if (virDomainQemuMonitorCommand(domain, R"({"execute":"query-cpus-fast"})", &text, 0) < 0)
        return libvirt_status("Cannot ask for the domain's process");
    const Json reply = parse_json(take_text(text));
    const auto cpus = reply.find("return");
    const std::vector<pid_t> threads =
        cpus == reply.end() ? std::vector<pid_t>() : vcpu_threads_of(*cpus);
    if (threads.empty()) return absl::InternalError("QEMU names no vCPU");
    std::ifstream status(fmt::format("/proc/{}/status", threads.front()));
    for (std::string word; status >> word;) {
        pid_t pid = 0;
        if (word == "Tgid:" && status >> pid) return pid;
    }
    return absl::NotFoundError(
        "the domain's process can't be seen: the agent must run in libvirt's PID namespace");
}

absl::Status check_file(const HostFile& file) {
    if (file.path.empty() || ::access(file.path.c_str(), file.access) == 0) return absl::OkStatus();
    return errno_status(errno, fmt::format("{} {}", file.what, file.path));
}

// Whether a domain of that name and UUID could be started.
absl::Status check_is_free(LibvirtConnection& libvirt, const std::string& name,
                           const std::string& uuid) {
    GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt.get());
    if (const DomainHandle same{virDomainLookupByName(connection.get(), name.c_str())};
        same && domain_uuid(same.get()) != uuid)
        return absl::AlreadyExistsError(
            fmt::format("libvirt has another domain named {}, with the UUID {}: rename or undefine "
                        "it",
                        name, domain_uuid(same.get())));
    if (const absl::StatusOr<DomainHandle> same = domain_by_uuid(connection, uuid); same.ok()) {
        const std::string its_name = virDomainGetName(same->get());
        if (its_name != name)
            return absl::AlreadyExistsError(fmt::format(
                "libvirt has another domain with the UUID {}, named {}", uuid, its_name));
        if (runs(same->get()))
            return absl::AlreadyExistsError(fmt::format("domain {} runs here already", name));
    }
    return absl::OkStatus();
}

absl::StatusOr<DomainRun> run_of(const LibvirtConnection& libvirt, virDomain* domain) {
    DomainRun run{.uuid = domain_uuid(domain), .id = static_cast<int>(virDomainGetID(domain))};
    run.process.pid = pid_from_file(libvirt.embedded_root(), virDomainGetName(domain));
    if (run.process.pid <= 0 || !is_qemu_of(run.process.pid, run.uuid)) {
        GODWIT_ASSIGN_OR_RETURN(run.process.pid, pid_from_monitor(domain));
    }
    GODWIT_ASSIGN_OR_RETURN(run.process.start_time, process_start_time(run.process.pid));
    if (libvirt.is_embedded()) {
        GODWIT_ASSIGN_OR_RETURN(run.monitor_socket, monitor_from_record(libvirt.embedded_root(),
                                                                        virDomainGetName(domain)));
    }
    return run;
}

absl::StatusOr<std::shared_ptr<LibvirtVm>> open_domain(
    const std::shared_ptr<LibvirtConnection>& libvirt, virDomain* domain) {
    if (!runs(domain))
        return absl::FailedPreconditionError(
            fmt::format("domain {} does not run; a cold move is not done yet: start it, or copy "
                        "its definition and disks",
                        virDomainGetName(domain)));
    char* xml = virDomainGetXMLDesc(domain, kDomainXmlFlags);
    if (xml == nullptr) return libvirt_status("Cannot read the domain's XML");
    const std::string text = take_text(xml);
    // Aliases are in this one only.
    const std::string live = take_text(virDomainGetXMLDesc(domain, 0));
    GODWIT_ASSIGN_OR_RETURN(v1::VmSpec spec, spec_of_domain(text));
    GODWIT_ASSIGN_OR_RETURN(const DomainRun run, run_of(*libvirt, domain));
    GODWIT_ASSIGN_OR_RETURN(DomainRam ram, open_domain_ram(run.process.pid));
    std::vector<std::string> problems = std::move(ram.problems);
    for (std::string& problem : domain_problems(live)) problems.push_back(std::move(problem));
    return LibvirtVm::create(libvirt, run, std::move(spec), std::move(ram.blocks),
                             std::move(problems), discarding_devices_of(live));
}

// Ends the domain if it is there and has never run: of a start whose outcome was lost with the
// connection. Best effort.
void remove_what_waits(const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid) {
    const MonotonicTime deadline = Clock::system().now() + kRegainLimit;
    std::mutex mutex;
    std::condition_variable timer;
    while (Clock::system().now() < deadline) {
        const absl::StatusOr<ConnectHandle> connection = libvirt->get();
        const absl::StatusOr<DomainHandle> domain =
            connection.ok() ? domain_by_uuid(*connection, uuid) : connection.status();
        if (absl::IsNotFound(domain.status())) return;
        if (domain.ok()) {
            if (!runs(domain->get())) return;
            const absl::StatusOr<std::shared_ptr<LibvirtVm>> vm =
                open_domain(libvirt, domain->get());
            const absl::StatusOr<RunState> state = vm.ok() ? (*vm)->run_state() : vm.status();
            // Another's domain is none of ours.
            if (state.ok() && *state != RunState::kInMigrate) return;
            if (state.ok() && (*vm)->kill(kKillLimit).ok()) return;
        }
        std::unique_lock lock(mutex);
        timer.wait_for(lock, kRegainPause);
    }
    spdlog::error("domain {} may have been started and wait for a migration: virsh destroy it",
                  uuid);
}

absl::Status check_is_movable(LibvirtVm& vm) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<std::string> blockers, vm.migration_blockers());
    return blockers.empty() ? absl::OkStatus() : absl::FailedPreconditionError(blockers.front());
}

// Paused, and waits for device state; or nothing of it is left.
absl::StatusOr<std::shared_ptr<LibvirtVm>> create_domain(
    const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid,
    const std::string& xml) {
    GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
    const DomainHandle domain(
        virDomainCreateXML(connection.get(), xml.c_str(), VIR_DOMAIN_START_PAUSED));
    if (!domain) {
        const absl::Status failed = libvirt_status("libvirt");
        // Lost in the middle of the call: it may have started all the same.
        if (absl::IsUnavailable(failed)) remove_what_waits(libvirt, uuid);
        return failed;
    }
    absl::StatusOr<std::shared_ptr<LibvirtVm>> vm = open_domain(libvirt, domain.get());
    if (!vm.ok() && runs(domain.get())) virDomainDestroy(domain.get());
    return vm;
}

}  // namespace

absl::StatusOr<HypervisorInfo> LibvirtHypervisor::info() {
    return result_within<HypervisorInfo>(
        kAnswerLimit, [libvirt = connection_]() -> absl::StatusOr<HypervisorInfo> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            const char* type = virConnectGetType(connection.get());
            if (type == nullptr || std::string_view(type) != "QEMU")
                return absl::FailedPreconditionError(fmt::format(
                    "{} runs no QEMU ({})", libvirt->uri(), type == nullptr ? "?" : type));
            unsigned long version = 0;
            if (virConnectGetVersion(connection.get(), &version) < 0)
                return libvirt_status("Cannot ask for QEMU's version");
            return HypervisorInfo{.name = "libvirt",
                                  .version = fmt::format("{}.{}.{}", version / 1'000'000,
                                                         version / 1000 % 1000, version % 1000),
                                  .has_kvm = probe_kvm()};
        });
}

absl::Status LibvirtHypervisor::check(const v1::VmSpec& spec) {
    if (spec.domain_xml().empty())
        return absl::InvalidArgumentError(
            "this agent's VMs are domains of libvirt; the source's is none: start an agent there "
            "with --driver qemu");
    GODWIT_ASSIGN_OR_RETURN(const v1::VmSpec said, spec_of_domain(spec.domain_xml()));
    v1::VmSpec defined = said;
    if (!spec.domain_definition_xml().empty()) {
        GODWIT_ASSIGN_OR_RETURN(defined, spec_of_domain(spec.domain_definition_xml()));
    }
    if (said.name() != spec.name() || said.uuid() != spec.uuid() || defined.name() != spec.name() ||
        defined.uuid() != spec.uuid())
        return absl::InvalidArgumentError("the domain's XML is that of another");
    std::vector<HostFile> files{
        {"kernel", said.kernel()}, {"initrd", said.initrd()}, {"loader", said.firmware()}};
    for (const v1::Disk& disk : said.disks()) files.push_back({"disk", disk.path()});
    GODWIT_RETURN_IF_ERROR(look_at_files(std::move(files), check_file));
    return status_within(kAnswerLimit,
                         [libvirt = connection_, name = spec.name(), uuid = spec.uuid()] {
                             return check_is_free(*libvirt, name, uuid);
                         });
}

absl::StatusOr<std::shared_ptr<Vm>> LibvirtHypervisor::start(const v1::VmSpec& spec,
                                                             StartMode mode) {
    if (mode == StartMode::kRun)
        return absl::UnimplementedError(
            "This agent's VMs are domains of libvirt: define and start them with virsh");
    GODWIT_RETURN_IF_ERROR(check(spec));
    GODWIT_ASSIGN_OR_RETURN(const std::string xml, with_incoming(spec.domain_xml()));
    using Started = std::shared_ptr<LibvirtVm>;
    absl::StatusOr<Started> started = result_within<Started>(
        kCreateLimit,
        [libvirt = connection_, uuid = spec.uuid(), xml] {
            return create_domain(libvirt, uuid, xml);
        },
        [](absl::StatusOr<Started> too_late) {
            if (too_late.ok()) (*too_late)->kill(kKillLimit).IgnoreError();
        });
    const std::string what = fmt::format("Cannot start domain {}", spec.name());
    if (!started.ok()) return annotate(started.status(), what);
    LibvirtVm& vm = **started;
    absl::Status ready = vm.connect(kStartLimit);
    if (ready.ok()) ready = check_is_movable(vm);
    if (ready.ok()) ready = vm.prepare_device_load();
    if (ready.ok()) return std::shared_ptr<Vm>(*std::move(started));
    // Nothing of it is left, or nobody knows.
    if (const absl::Status killed = vm.kill(kKillLimit); !killed.ok())
        return absl::DeadlineExceededError(fmt::format("{}: {}; and it could not be ended: {}",
                                                       what, std::string(ready.message()),
                                                       std::string(killed.message())));
    if (absl::IsDeadlineExceeded(ready)) ready = absl::FailedPreconditionError(ready.message());
    return annotate(ready, what);
}

// They are looked up when somebody asks.
absl::StatusOr<std::vector<std::shared_ptr<Vm>>> LibvirtHypervisor::adopt() {
    return std::vector<std::shared_ptr<Vm>>();
}

absl::StatusOr<std::shared_ptr<Vm>> LibvirtHypervisor::find(const std::string& name) {
    return result_within<std::shared_ptr<Vm>>(
        kAnswerLimit, [libvirt = connection_, name]() -> absl::StatusOr<std::shared_ptr<Vm>> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain, find_domain(connection, name));
            return open_domain(libvirt, domain.get());
        });
}

// Asks libvirtd alone: a QEMU whose guest waits for pages answers no monitor.
absl::StatusOr<std::string> LibvirtHypervisor::name_of(const std::string& uuid) {
    return result_within<std::string>(
        kAnswerLimit, [libvirt = connection_, uuid]() -> absl::StatusOr<std::string> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain, find_domain(connection, uuid));
            return std::string(virDomainGetName(domain.get()));
        });
}

absl::StatusOr<std::vector<std::string>> LibvirtHypervisor::names() {
    using Names = std::vector<std::string>;
    return result_within<Names>(kAnswerLimit, [libvirt = connection_]() -> absl::StatusOr<Names> {
        GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
        virDomainPtr* domains = nullptr;
        const int count =
            virConnectListAllDomains(connection.get(), &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
        if (count < 0) return libvirt_status("Cannot list the domains");
        Names names;
        for (int i = 0; i < count; ++i) {
            const DomainHandle domain(domains[i]);
            names.emplace_back(virDomainGetName(domain.get()));
        }
        std::free(domains);  // NOLINT(cppcoreguidelines-no-malloc): libvirt's
        return names;
    });
}

bool LibvirtHypervisor::may_have(const std::string& name) {
    const absl::StatusOr<bool> running =
        result_within<bool>(kAnswerLimit, [libvirt = connection_, name]() -> absl::StatusOr<bool> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            const absl::StatusOr<DomainHandle> domain = find_domain(connection, name);
            if (absl::IsNotFound(domain.status())) return false;
            if (!domain.ok()) return domain.status();
            return runs(domain->get());
        });
    return running.value_or(true);
}

void LibvirtHypervisor::end_soon(Duration limit) { hurry_late_calls(limit); }

absl::Status LibvirtHypervisor::forget(Vm& vm) {
    if (dynamic_cast<LibvirtVm*>(&vm) == nullptr)
        return absl::InvalidArgumentError("the VM is none of this hypervisor's");
    return absl::OkStatus();
}

}  // namespace godwit
