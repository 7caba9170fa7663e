#include "engine/guest/qemu/qemu_hypervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "engine/base/log.h"
#include "engine/guest/qemu/kvm_probe.h"
#include "engine/guest/qemu/log_trim.h"
#include "engine/guest/qemu/qemu_start.h"
#include "engine/guest/qemu/spec_check.h"
#include "engine/guest/vm_file/validate_spec.h"

namespace godwit {
namespace {

// QEMU answers 26–50 ms after its start; a loaded host takes longer.
constexpr Duration kStartLimit = std::chrono::seconds(10);
// An adopted QEMU that serves a drain may not answer; it is adopted all the same.
constexpr Duration kAdoptLimit = std::chrono::seconds(1);
constexpr Duration kKillLimit = std::chrono::seconds(10);

}  // namespace

// --- memory ---------------------------------------------------------------------------------

absl::Status QemuHypervisor::Ledger::fits(Bytes bytes, Bytes limit) const {
    if (limit == 0) return absl::OkStatus();
    Bytes sum = 0;
    for (const auto& [name, taken] : taken_) sum += taken;
    if (sum + bytes <= limit) return absl::OkStatus();
    return absl::ResourceExhaustedError(fmt::format(
        "memory: {} on top of the {} that run here is more than this agent's limit of {}",
        format_bytes(bytes), format_bytes(sum), format_bytes(limit)));
}

absl::Status QemuHypervisor::Ledger::would_fit(Bytes bytes, Bytes limit) {
    const std::lock_guard lock(mutex_);
    return fits(bytes, limit);
}

absl::Status QemuHypervisor::Ledger::take(const std::string& name, Bytes bytes, Bytes limit) {
    const std::lock_guard lock(mutex_);
    GODWIT_RETURN_IF_ERROR(fits(bytes, limit));
    taken_[name] = bytes;
    return absl::OkStatus();
}

bool QemuHypervisor::Ledger::has(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return taken_.count(name) != 0;
}

void QemuHypervisor::Ledger::give_back(const std::string& name) {
    const std::lock_guard lock(mutex_);
    taken_.erase(name);
}

std::vector<std::string> QemuHypervisor::Ledger::names() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, taken] : taken_) names.push_back(name);
    return names;
}

// --- questions ------------------------------------------------------------------------------

QemuHypervisor::QemuHypervisor(QemuOptions options)
    : options_(std::move(options)), probe_(options_.qemu_binary), mounts_(options_.state_dir) {}

QemuHypervisor::~QemuHypervisor() { mounts_.release_unused(); }

absl::StatusOr<HypervisorInfo> QemuHypervisor::info() {
    GODWIT_ASSIGN_OR_RETURN(QemuFacts facts, probe_.facts());
    return HypervisorInfo{.name = "qemu", .version = facts.version, .has_kvm = probe_kvm()};
}

absl::StatusOr<v1::VmSpec> QemuHypervisor::resolve(const v1::VmSpec& spec) {
    if (!spec.domain_xml().empty())
        return absl::InvalidArgumentError(
            "the VM is a domain of libvirt, and this agent starts QEMU itself: start the agent "
            "with --driver libvirt:URI");
    GODWIT_RETURN_IF_ERROR(validate_spec(spec));
    GODWIT_ASSIGN_OR_RETURN(QemuFacts facts, probe_.facts());
    GODWIT_ASSIGN_OR_RETURN(v1::VmSpec resolved,
                            resolve_spec(spec, probe_kvm(), facts.machines, facts.kvm_cpu));
    GODWIT_RETURN_IF_ERROR(check_host(resolved));
    return resolved;
}

absl::Status QemuHypervisor::check(const v1::VmSpec& spec) {
    GODWIT_RETURN_IF_ERROR(resolve(spec).status());
    GODWIT_RETURN_IF_ERROR(check_socket_path(vm_paths(options_.state_dir, spec.name())));
    return ledger_->would_fit(spec.memory_bytes(), options_.memory_limit_bytes);
}

std::string QemuHypervisor::serial_log_path(const std::string& vm_name) const {
    return vm_paths(options_.state_dir, vm_name).serial_log();
}

// --- starting -------------------------------------------------------------------------------

struct QemuHypervisor::Start {
    VmPaths paths;
    VmRecord record;
    std::string nonce;
    StartMode mode;
    std::shared_ptr<QemuVm> vm;
};

absl::Status QemuHypervisor::claim_directory(const std::string& name, const VmPaths& paths) {
    std::error_code error;
    std::filesystem::create_directories(options_.state_dir + "/vms", error);
    if (error)
        return errno_status(error.value(), fmt::format("Cannot create {}/vms", options_.state_dir));
    if (::mkdir(paths.directory.c_str(), 0700) == 0) return absl::OkStatus();
    if (errno != EEXIST)
        return errno_status(errno, fmt::format("Cannot create {}", paths.directory));
    return absl::AlreadyExistsError(
        fmt::format("a VM named {} is on this host already ({})", name, paths.directory));
}

absl::StatusOr<std::shared_ptr<Vm>> QemuHypervisor::start(const v1::VmSpec& spec, StartMode mode) {
    GODWIT_ASSIGN_OR_RETURN(v1::VmSpec resolved, resolve(spec));
    Start start{.paths = vm_paths(options_.state_dir, spec.name()),
                .record = {.spec = std::move(resolved), .incoming = mode == StartMode::kIncoming},
                .nonce = make_nonce(),
                .mode = mode};
    GODWIT_RETURN_IF_ERROR(check_socket_path(start.paths));
    GODWIT_RETURN_IF_ERROR(claim_directory(spec.name(), start.paths));
    absl::StatusOr<std::shared_ptr<Vm>> vm = launch(start);
    if (vm.ok()) return vm;
    if (start.vm) (void)start.vm->kill(kKillLimit);
    // Without a QemuVm there may be a process all the same.
    if (const auto left = open_process(start.record.process); left.ok()) end_child(left->get());
    const absl::Status removed = remove_vm_files(start.paths, start.record.ram_files);
    if (!removed.ok()) SPDLOG_WARN("{}", std::string(removed.message()));
    ledger_->give_back(spec.name());
    const absl::Status why = annotate(vm.status(), fmt::format("Cannot start VM {}", spec.name()));
    // It is known that nothing is left.
    return absl::IsDeadlineExceeded(why) ? absl::FailedPreconditionError(why.message()) : why;
}

absl::StatusOr<std::shared_ptr<Vm>> QemuHypervisor::launch(Start& start) {
    VmRecord& record = start.record;
    const v1::VmSpec& spec = record.spec;
    GODWIT_RETURN_IF_ERROR(
        ledger_->take(spec.name(), spec.memory_bytes(), options_.memory_limit_bytes));
    const std::vector<Bytes> sizes = ram_block_sizes(spec);
    for (size_t i = 0; i < sizes.size(); ++i)
        record.ram_files.push_back(mounts_.file_path(
            spec.memory_backing(), fmt::format("{}-{}-ram{}", spec.name(), start.nonce, i)));
    // First the record, then what it names: a restarted agent cleans up after us.
    GODWIT_RETURN_IF_ERROR(write_record(record, start.paths.record()));
    for (size_t i = 0; i < sizes.size(); ++i)
        GODWIT_RETURN_IF_ERROR(
            mounts_.create_file(spec.memory_backing(), record.ram_files[i], sizes[i]));
    GODWIT_ASSIGN_OR_RETURN(QemuFacts facts, probe_.facts());
    GODWIT_ASSIGN_OR_RETURN(UniqueFd pidfd,
                            start_qemu({.program = facts.program,
                                        .resident_library = options_.resident_library,
                                        .state_dir = options_.state_dir,
                                        .nonce = start.nonce,
                                        .paths = start.paths},
                                       record));
    absl::StatusOr<std::shared_ptr<QemuVm>> vm = watch(record, start.paths, std::move(pidfd));
    if (!vm.ok()) return vm.status();
    start.vm = *vm;
    absl::Status ready = start.vm->connect(kStartLimit);
    if (ready.ok() && start.mode == StartMode::kIncoming) ready = start.vm->prepare_device_load();
    if (ready.ok()) return start.vm;
    const std::string words = last_words(start.paths.qemu_log());
    return words.empty()
               ? ready
               : absl::Status(ready.code(),
                              fmt::format("{}; it said: {}", std::string(ready.message()), words));
}

absl::StatusOr<std::shared_ptr<QemuVm>> QemuHypervisor::watch(VmRecord record, const VmPaths& paths,
                                                              UniqueFd pidfd) {
    const std::string name = record.spec.name();
    return QemuVm::create(std::move(record), paths, std::move(pidfd),
                          [ledger = ledger_, name] { ledger->give_back(name); });
}

// --- after a restart ------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Vm>> QemuHypervisor::adopt_one(const std::string& name) {
    const VmPaths paths = vm_paths(options_.state_dir, name);
    absl::StatusOr<VmRecord> record = read_record(paths.record());
    if (absl::IsNotFound(record.status())) record = VmRecord{};  // it was never started
    GODWIT_RETURN_IF_ERROR(record.status());
    absl::StatusOr<UniqueFd> pidfd = open_process(record->process);
    // After a reboot another process may have both the pid and the start time.
    const bool ours =
        pidfd.ok() && !record->ram_files.empty() &&
        process_command_line(record->process.pid).find(escape_commas(record->ram_files.front())) !=
            std::string::npos;
    if (!ours) {
        if (!pidfd.ok() && !absl::IsNotFound(pidfd.status())) return pidfd.status();
        SPDLOG_INFO("VM {} has ended: its files are removed", name);
        GODWIT_RETURN_IF_ERROR(remove_vm_files(paths, record->ram_files));
        return std::shared_ptr<Vm>();
    }
    const Bytes memory_bytes = record->spec.memory_bytes();
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<QemuVm> vm,
                            watch(*std::move(record), paths, *std::move(pidfd)));
    GODWIT_RETURN_IF_ERROR(ledger_->take(name, memory_bytes, /*limit=*/0));
    const absl::Status connected = vm->connect(kAdoptLimit);
    if (!connected.ok())
        SPDLOG_WARN("VM {} is adopted, but does not answer yet: {}", name,
                    std::string(connected.message()));
    return vm;
}

absl::StatusOr<std::vector<std::shared_ptr<Vm>>> QemuHypervisor::adopt() {
    std::vector<std::shared_ptr<Vm>> vms;
    std::error_code error;
    std::filesystem::directory_iterator entries(options_.state_dir + "/vms", error);
    if (error == std::errc::no_such_file_or_directory) return vms;
    if (error)
        return errno_status(error.value(), fmt::format("Cannot read {}/vms", options_.state_dir));
    std::vector<std::string> names;
    for (const auto& entry : entries) names.push_back(entry.path().filename().string());
    for (const std::string& name : names) {
        if (!is_vm_name(name) || ledger_->has(name)) continue;
        absl::StatusOr<std::shared_ptr<Vm>> vm = adopt_one(name);
        if (!vm.ok())
            SPDLOG_ERROR("Cannot adopt VM {}, which is left alone: {}", name,
                         std::string(vm.status().message()));
        else if (*vm)
            vms.push_back(*std::move(vm));
    }
    return vms;
}

bool QemuHypervisor::may_have(const std::string& name) {
    std::error_code error;
    return std::filesystem::exists(vm_paths(options_.state_dir, name).directory, error);
}

absl::Status QemuHypervisor::forget(Vm& vm) {
    auto* ours = dynamic_cast<QemuVm*>(&vm);
    if (ours == nullptr) return absl::InvalidArgumentError("the VM is none of this hypervisor's");
    return ours->remove_files();
}

void QemuHypervisor::trim_serial_logs() {
    for (const std::string& name : ledger_->names()) trim_log(serial_log_path(name));
}

}  // namespace godwit
