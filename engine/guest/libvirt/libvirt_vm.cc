#include "engine/guest/libvirt/libvirt_vm.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>

#include "engine/base/log.h"
#include "engine/guest/libvirt/define_domain.h"
#include "engine/guest/libvirt/domain_xml.h"
#include "engine/guest/libvirt/libvirt_monitor.h"
#include "engine/guest/libvirt/native_move.h"
#include "engine/guest/qemu/qmp_client.h"

namespace godwit {
namespace {

constexpr Duration kCommandLimit = std::chrono::seconds(10);
// For libvirt to hear that it is to end the domain, before QEMU is killed: it would take the end
// for a crash otherwise. What it does by itself, SIGTERM and up to 15 s of waiting, takes too long
// for a source whose guest waits for pages.
constexpr Duration kToldLimit = std::chrono::milliseconds(50);
constexpr Duration kTidyLimit = std::chrono::seconds(2);
// A look-up takes a moment; a libvirt that hangs hears nothing before QEMU ends.
constexpr Duration kLookUpLimit = std::chrono::seconds(1);
constexpr Duration kSettingsPause = std::chrono::milliseconds(500);
constexpr std::string_view kAddressKind = "libvirt";

// Nobody knows what became of it.
bool is_silence(const absl::Status& status) {
    return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

absl::StatusOr<std::shared_ptr<LibvirtVm>> LibvirtVm::create(
    std::shared_ptr<LibvirtConnection> connection, const DomainRun& run, v1::VmSpec spec,
    std::vector<RamBlock> ram_blocks, std::vector<std::string> problems,
    std::vector<std::string> discarding_devices) {
    OpenSession session = through_libvirt(connection, run);
    return make(std::move(connection), run, std::move(session), std::move(spec),
                std::move(ram_blocks), std::move(problems), std::move(discarding_devices));
}

LibvirtVm::OpenSession LibvirtVm::through_libvirt(std::shared_ptr<LibvirtConnection> connection,
                                                  const DomainRun& run) {
    return [connection = std::move(connection), run](MonotonicTime deadline,
                                                     QmpSession::OnEvent on_event) {
        return LibvirtMonitor::open(connection, run.uuid, run.id, deadline, std::move(on_event));
    };
}

// QEMU serves one client at a time: whoever is next waits for its greeting.
LibvirtVm::OpenSession LibvirtVm::through_socket(const std::string& path) {
    return [path](MonotonicTime deadline, QmpSession::OnEvent on_event) {
        return QmpClient::connect(path, deadline, std::move(on_event));
    };
}

absl::StatusOr<std::shared_ptr<LibvirtVm>> LibvirtVm::make(
    std::shared_ptr<LibvirtConnection> connection, const DomainRun& run, OpenSession session,
    v1::VmSpec spec, std::vector<RamBlock> ram_blocks, std::vector<std::string> problems,
    std::vector<std::string> discarding_devices) {
    GODWIT_ASSIGN_OR_RETURN(UniqueFd pidfd, open_process(run.process));
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    Parts parts{.name = spec.name(),
                .process = run.process,
                .pidfd = std::move(pidfd),
                .ram_blocks = std::move(ram_blocks),
                .open_session = std::move(session)};
    return std::shared_ptr<LibvirtVm>(
        new LibvirtVm(std::move(parts), std::move(wakeup), std::move(connection), run,
                      std::move(spec), std::move(problems), std::move(discarding_devices)));
}

LibvirtVm::LibvirtVm(Parts parts, Wakeup wakeup, std::shared_ptr<LibvirtConnection> connection,
                     DomainRun run, v1::VmSpec spec, std::vector<std::string> problems,
                     std::vector<std::string> discarding_devices)
    : QmpVm(std::move(parts), std::move(wakeup)),
      connection_(std::move(connection)),
      run_(std::move(run)),
      spec_(std::move(spec)),
      problems_(std::move(problems)),
      discarding_devices_(std::move(discarding_devices)) {}

LibvirtVm::~LibvirtVm() {
    const std::lock_guard lock(mutex_);
    if (destroyer_) destroyer_->done_by(Clock::system().now() + kTidyLimit);
}

// --- the guard's way ------------------------------------------------------------------------

std::string LibvirtVm::guard_address() const {
    return fmt::format("{} {} {} {} {} {} {}", kAddressKind, connection_->uri(), run_.uuid, run_.id,
                       run_.process.pid, run_.process.start_time, run_.monitor_socket);
}

bool LibvirtVm::is_address(const std::string& guard_address) {
    return guard_address.rfind(std::string(kAddressKind) + " ", 0) == 0;
}

absl::StatusOr<std::shared_ptr<LibvirtVm>> LibvirtVm::open(const std::string& guard_address) {
    std::istringstream words(guard_address);
    std::string kind, uri;
    DomainRun run;
    words >> kind >> uri >> run.uuid >> run.id >> run.process.pid >> run.process.start_time;
    if (!words || kind != kAddressKind)
        return absl::InvalidArgumentError("not the address of a domain: " + guard_address);
    // The last word, with its spaces.
    std::getline(words >> std::ws, run.monitor_socket);
    v1::VmSpec spec;
    spec.set_name(run.uuid);
    auto connection = std::make_shared<LibvirtConnection>(uri);
    OpenSession session = run.monitor_socket.empty() ? through_libvirt(connection, run)
                                                     : through_socket(run.monitor_socket);
    return make(std::move(connection), run, std::move(session), std::move(spec), {}, {}, {});
}

absl::StatusOr<DomainHandle> LibvirtVm::domain_of(const ConnectHandle& connection,
                                                  const DomainRun& run, const std::string& name) {
    GODWIT_ASSIGN_OR_RETURN(DomainHandle domain, domain_by_uuid(connection, run.uuid));
    if (static_cast<int>(virDomainGetID(domain.get())) != run.id)
        return absl::NotFoundError(fmt::format("domain {} has ended", name));
    return domain;
}

template <typename Result>
absl::StatusOr<Result> LibvirtVm::ask_of_domain(
    std::function<absl::StatusOr<Result>(virDomain*)> ask) {
    if (ended()) return absl::NotFoundError(fmt::format("domain {} has ended", spec_.name()));
    return result_within<Result>(
        kAnswerLimit,
        [connection = connection_, run = run_, name = spec_.name(),
         ask = std::move(ask)]() -> absl::StatusOr<Result> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle handle, connection->get());
            GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain, domain_of(handle, run, name));
            return ask(domain.get());
        });
}

// --- questions ------------------------------------------------------------------------------

absl::StatusOr<std::vector<std::string>> LibvirtVm::migration_blockers() {
    if (!problems_.empty()) return problems_;
    GODWIT_ASSIGN_OR_RETURN(
        const int job_type, ask_of_domain<int>([](virDomain* domain) -> absl::StatusOr<int> {
            virDomainJobInfo job{};
            if (virDomainGetJobInfo(domain, &job) < 0)
                return libvirt_status("Cannot ask for libvirt's job on the domain");
            return job.type;
        }));
    if (job_type != VIR_DOMAIN_JOB_NONE)
        return std::vector<std::string>{fmt::format(
            "libvirt has a job on domain {} already (a migration, a save, a dump, a backup): wait "
            "until virsh domjobinfo says None, or end it by virsh domjobabort",
            spec_.name())};
    GODWIT_ASSIGN_OR_RETURN(std::vector<std::string> blockers, QmpVm::migration_blockers());
    // QEMU itself says nothing against these until it is to let go of the disks, in the pause.
    GODWIT_ASSIGN_OR_RETURN(const Json jobs, command("query-block-jobs", {}, kCommandLimit));
    for (const Json& job : jobs)
        blockers.push_back(fmt::format(
            "a block job ({}) copies {} at this host: wait until virsh blockjob shows none, or end "
            "it by virsh blockjob --abort",
            json_text(job, "type"), json_text(job, "device")));
    return blockers;
}

std::string LibvirtVm::resident_socket() const { return resident_socket_of(spec_.domain_xml()); }

// --- migration ------------------------------------------------------------------------------

// libvirt's own migration does not know of x-ignore-shared and would leave the RAM behind; QEMU
// refuses such a stream at the other end.
absl::Status LibvirtVm::restore_migration_settings(Duration limit) {
    Json capabilities = Json::array();
    for (const char* name : {"x-ignore-shared", "pause-before-switchover", "late-block-activate"})
        capabilities.push_back({{"capability", name}, {"state", false}});
    GODWIT_RETURN_IF_ERROR(
        command("migrate-set-capabilities", {{"capabilities", std::move(capabilities)}}, limit)
            .status());
    // QEMU's defaults; the bandwidth is what libvirt sets at each start: no limit.
    return command("migrate-set-parameters", {{"downtime-limit", 300}, {"announce-rounds", 5}},
                   limit)
        .status();
}

absl::Status LibvirtVm::prepare_device_save(UniqueFd out) {
    GODWIT_ASSIGN_OR_RETURN(
        const std::string now,
        ask_of_domain<std::string>([](virDomain* domain) -> absl::StatusOr<std::string> {
            char* xml = virDomainGetXMLDesc(domain, kDomainXmlFlags);
            if (xml == nullptr) return libvirt_status("Cannot read the domain's XML");
            return take_text(xml);
        }));
    if (fixed_parts_of(now) != fixed_parts_of(spec_.domain_xml()))
        return absl::FailedPreconditionError(fmt::format(
            "domain {} was changed while it moved (a device, a disk's image, its vCPUs): the "
            "destination has it as it was before; migrate it anew",
            spec_.name()));
    return QmpVm::prepare_device_save(std::move(out));
}

// Whoever saved the domain in between would save it without its memory. Nobody can while libvirtd
// is away, so it is asked until it answers; what QEMU itself refuses is not asked again.
void LibvirtVm::forgo_device_save() {
    QmpVm::forgo_device_save();
    std::mutex mutex;
    std::condition_variable_any pause;
    std::unique_lock lock(mutex);
    bool was_said = false;
    absl::Status status;
    while (is_silence(status = restore_migration_settings(kCommandLimit)) && !ended()) {
        if (!std::exchange(was_said, true))
            spdlog::warn(
                "domain {}: what a migration has set up is to be put back: {}; trying "
                "again until it is",
                spec_.name(), std::string(status.message()));
        if (late_calls_are_over()) break;
        wait_for_late_call(lock, pause, Clock::system().now() + kSettingsPause,
                           [] { return false; });
    }
    if (!status.ok() && !ended())
        spdlog::error(
            "domain {}: x-ignore-shared may be on in its QEMU still, and virsh save and "
            "migrate would leave its memory out; it is off once Godwit has moved it: {}",
            spec_.name(), std::string(status.message()));
}

absl::Status LibvirtVm::roll_back(bool run, Duration limit) {
    GODWIT_RETURN_IF_ERROR(QmpVm::roll_back(run, limit));
    // The guest is what matters; but whoever asks for this asks again.
    absl::Status status = restore_migration_settings(limit);
    return is_silence(status) ? status : absl::OkStatus();
}

absl::StatusOr<v1::VmSpec> LibvirtVm::spec_to_move(bool with_definition) {
    v1::VmSpec moved = spec_;
    if (!with_definition) return moved;
    GODWIT_ASSIGN_OR_RETURN(
        std::string definition,
        ask_of_domain<std::string>([](virDomain* domain) -> absl::StatusOr<std::string> {
            // Of a transient domain: its present run, as virsh does it.
            unsigned int flags = VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE;
            if (virDomainIsPersistent(domain) == 1) flags |= VIR_DOMAIN_XML_INACTIVE;
            char* xml = virDomainGetXMLDesc(domain, flags);
            if (xml == nullptr) return libvirt_status("Cannot read the domain's definition");
            return without_incoming(take_text(xml));
        }));
    moved.set_domain_definition_xml(std::move(definition));
    return moved;
}

absl::Status LibvirtVm::undefine() { return undefine_domain(connection_, run_.uuid); }

std::vector<std::string> LibvirtVm::left_behind() {
    return definition_left_behind(connection_, run_.uuid);
}

absl::Status LibvirtVm::arrived(const std::string& definition) {
    absl::Status status = restore_migration_settings(kCommandLimit);
    if (definition.empty()) return status;
    absl::Status defined =
        status_within(kAnswerLimit, [libvirt = connection_, run = run_, definition] {
            return define_running_domain(*libvirt, run.uuid, run.id, definition);
        });
    if (!defined.ok() && ended()) defined = absl::NotFoundError("it has ended");
    status.Update(annotate(defined, fmt::format("Cannot define domain {}", spec_.name())));
    return status;
}

absl::StatusOr<NativeProgress> LibvirtVm::move_natively(
    const NativeMove& move, const std::function<bool(const NativeProgress&)>& go_on) {
    return migrate_by_libvirt(connection_, run_.uuid, move, go_on);
}

// --- the end --------------------------------------------------------------------------------

absl::Status LibvirtVm::kill(Duration limit) {
    if (ended()) return QmpVm::kill(limit);
    auto found = result_within<std::shared_ptr<virDomain>>(
        kLookUpLimit,
        [connection = connection_, run = run_,
         name = spec_.name()]() -> absl::StatusOr<std::shared_ptr<virDomain>> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle handle, connection->get());
            return domain_of(handle, run, name);
        });
    if (found.ok()) {
        const std::lock_guard lock(mutex_);
        destroyer_ = std::make_unique<LateCall>(
            kLibvirtCall, [domain = *std::move(found)] { virDomainDestroy(domain.get()); });
        if (await_end(Clock::system().now() + std::min(kToldLimit, limit)).ok())
            return absl::OkStatus();
    }
    return QmpVm::kill(limit);
}

absl::Status LibvirtVm::stop(bool force, Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    if (force) return kill(limit);
    const auto told = ask_of_domain<bool>([](virDomain* domain) -> absl::StatusOr<bool> {
        if (virDomainShutdown(domain) < 0) return libvirt_status("libvirt");
        return true;
    });
    if (absl::IsNotFound(told.status())) return absl::OkStatus();
    if (!told.ok())
        return annotate(told.status(), fmt::format("Cannot shut domain {} down", spec_.name()));
    if (await_end(deadline).ok()) return absl::OkStatus();
    return absl::DeadlineExceededError(fmt::format(
        "domain {} did not power off in time; the guest may not know how, or is paused: use "
        "--force",
        spec_.name()));
}

}  // namespace godwit
