// godwitd: the agent of a host.
#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "dirty-tracking/resident/vcpu_throttle.h"
#include "engine/base/late_call.h"
#include "engine/base/log.h"
#include "engine/base/thread_placement.h"
#include "engine/base/wait.h"
#include "engine/guest/libvirt/enable.h"
#include "engine/guest/libvirt/libvirt_hypervisor.h"
#include "engine/guest/qemu/qemu_hypervisor.h"
#include "tools/godwitd/agent_service.h"
#include "tools/godwitd/incoming_registry.h"
#include "tools/godwitd/test_hold.h"
#include "tools/godwitd/tracker_choice.h"
#include "tools/godwitd/transfer_service.h"
#include "transport/control/peer.h"
#include "transport/ring/ring_choice.h"

namespace godwit {
namespace {

struct Flags {
    std::string listen = "127.0.0.1:7654";
    std::string state_dir = "/var/lib/godwit";
    std::string driver = "qemu";
    std::string qemu = "qemu-system-x86_64";
    std::string memory_limit = "0";
    std::string log_level = "info";
    std::string guard;
    std::string resident;
    bool overcommit = false;
    bool insecure = false;
    bool no_io_uring = false;
    std::string cpus;
    int nice = 0;
    std::string cpu_latency = "auto";
    bool unsafe_no_unsettled = false;
    std::string test_hold_at;
    double freeze_limit_s = 10;
};

constexpr int kUsage = 2;
constexpr int kRefused = 3;
// For what others have to answer before the agent can end: a guest is given back meanwhile.
constexpr Duration kEndLimit = std::chrono::seconds(10);

// A file of ours stands beside the agent in a build tree, and in `folder` when installed.
std::string find_beside(const std::string& file, const std::string& folder) {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    for (const auto& path : {self / file, self / ".." / folder / file})
        if (std::filesystem::exists(path, error)) return path.lexically_normal().string();
    return {};
}

// One agent per state directory.
absl::StatusOr<UniqueFd> lock_state_dir(const std::string& state_dir) {
    std::error_code error;
    std::filesystem::create_directories(state_dir, error);
    if (error) return errno_status(error.value(), fmt::format("Cannot create {}", state_dir));
    const std::string path = state_dir + "/lock";
    UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
        return absl::FailedPreconditionError(
            fmt::format("Another agent uses the state directory {}", state_dir));
    return lock;
}

absl::StatusOr<std::unique_ptr<DirtyTracker>> make_tracker(Vm& vm, const std::string& name,
                                                           v1::MigrationReport& report) {
    GODWIT_ASSIGN_OR_RETURN(TrackerChoice choice, choose_tracker(vm, name));
    report.set_attach_hold_us(choice.attach_hold_us);
    return std::move(choice.tracker);
}

absl::StatusOr<std::unique_ptr<VcpuThrottle>> make_throttle(Vm& vm) {
    if (vm.spec().no_resident())
        return absl::FailedPreconditionError(
            "The vCPUs of this VM can't be held back: the VM file says resident: false");
    return ResidentVcpuThrottle::connect(vm.resident_socket(), vm.pid());
}

int refuse(const absl::Status& status) {
    std::cerr << "godwitd: " << status.message() << std::endl;
    return kRefused;
}

// Chosen once: how all data streams of this agent send and receive.
RingKind ring_kind(bool no_io_uring) {
    const RingChoice choice = choose_ring(!no_io_uring);
    if (choice.reason.empty())
        spdlog::info("data streams use io_uring");
    else
        spdlog::warn("data streams use plain sockets, which cost more CPU: {}", choice.reason);
    return choice.kind;
}

// For scripts that let the kernel choose the port: <state>/address holds HOST:PORT.
void write_address(const std::string& state_dir, const HostPort& address) {
    const std::string path = state_dir + "/address";
    std::ofstream(path + ".new") << address.to_string() << "\n";
    std::error_code error;
    std::filesystem::rename(path + ".new", path, error);
    if (error) spdlog::warn("cannot write {}: {}", path, error.message());
}

constexpr std::string_view kLibvirt = "libvirt:";

// The residents of domains listen in a directory where QEMU's user can make a socket and can't
// touch another's.
void make_resident_directory() {
    std::error_code error;
    std::filesystem::create_directories(kResidentDirectory, error);
    if (error || ::chmod(kResidentDirectory, 01733) != 0)
        spdlog::warn("{} can't be made: no domain has KVM's dirty log here", kResidentDirectory);
}

std::unique_ptr<Hypervisor> make_hypervisor(const Flags& flags, Bytes memory_limit) {
    if (flags.driver.rfind(kLibvirt, 0) == 0)
        return std::make_unique<LibvirtHypervisor>(flags.driver.substr(kLibvirt.size()));
    return std::make_unique<QemuHypervisor>(QemuOptions{.state_dir = flags.state_dir,
                                                        .qemu_binary = flags.qemu,
                                                        .resident_library = flags.resident,
                                                        .memory_limit_bytes = memory_limit});
}

int serve(const Flags& flags, const HostPort& listen, Bytes memory_limit,
          const ThreadPlacement& placement) {
    const absl::StatusOr<UniqueFd> lock = lock_state_dir(flags.state_dir);
    if (!lock.ok()) return refuse(lock.status());
    // Threads made from here on must not take the signals that signalfd waits for.
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGINT);
    ::sigaddset(&signals, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    const UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC));
    ::signal(SIGPIPE, SIG_IGN);

    const std::unique_ptr<Hypervisor> made = make_hypervisor(flags, memory_limit);
    Hypervisor& hypervisor = *made;
    const absl::StatusOr<HypervisorInfo> info = hypervisor.info();
    if (!info.ok()) return refuse(info.status());
    if (hypervisor.finds_vms()) make_resident_directory();
    VmRegistry vms(hypervisor);
    if (const absl::Status status = vms.adopt(); !status.ok()) return refuse(status);
    for (const std::string& problem : host_trackers(info->has_kvm, flags.resident).problems)
        spdlog::warn("tracker {}", problem);

    const RingKind ring = ring_kind(flags.no_io_uring);

    TestHold hold(flags.test_hold_at, flags.state_dir);
    const StepHook at_step = flags.test_hold_at.empty()
                                 ? StepHook(no_hook)
                                 : [&hold](std::string_view step) { hold.reached(step); };
    IncomingRegistry incoming(vms, hypervisor,
                              {.state_dir = flags.state_dir,
                               .listen_host = listen.host,
                               .ring = ring,
                               .placement = placement,
                               .hypervisor_version = info->version,
                               .overcommit = flags.overcommit,
                               .at_step = at_step});
    incoming.recover();
    CalibrationFile calibration(flags.state_dir);
    MigrationRegistry migrations(vms, calibration,
                                 {.state_dir = flags.state_dir,
                                  .guard_program = flags.guard,
                                  .hypervisor_version = info->version,
                                  .make_tracker = make_tracker,
                                  .make_throttle = make_throttle,
                                  .track_unsettled = !flags.unsafe_no_unsettled,
                                  .freeze_limit = std::chrono::duration_cast<Duration>(
                                      std::chrono::duration<double>(flags.freeze_limit_s)),
                                  .ring = ring,
                                  .placement = placement,
                                  .at_step = at_step});
    migrations.recover();
    AgentService agent(hypervisor, vms, migrations, incoming, calibration,
                       {.memory_limit_bytes = memory_limit,
                        .resident_library = flags.resident,
                        .overcommit = flags.overcommit,
                        .ring = ring,
                        .placement = placement});
    TransferService transfer(incoming, migrations, {.listen_host = listen.host, .ring = ring});

    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(listen.to_string(), grpc::InsecureServerCredentials(), &port);
    // A second agent on the same port must fail, not share it.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(&agent);
    builder.RegisterService(&transfer);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (!server || port == 0)
        return refuse(absl::UnavailableError(
            fmt::format("Cannot listen on {}: is the port in use?", listen.to_string())));
    spdlog::info("godwitd {} listens on {}:{}, {} {}, state in {}", GODWIT_VERSION, listen.host,
                 port, info->name, info->version, flags.state_dir);

    const HostPort address{listen.host, static_cast<uint16_t>(port)};
    migrations.set_own_address(address.to_string());
    write_address(flags.state_dir, address);

    // Until a signal comes: forget VMs that ended by themselves, and migrations that are over.
    while (absl::IsDeadlineExceeded(
        wait_readable(signal_fd.get(), -1, Clock::system().now() + std::chrono::seconds(1)))) {
        vms.sweep();
        incoming.sweep();
        migrations.sweep();
        hypervisor.trim_serial_logs();
    }
    spdlog::info("ending; VMs run on");
    hypervisor.end_soon(kEndLimit);
    agent.end_followers();
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    return 0;
}

void add_options(CLI::App& app, Flags& flags) {
    app.add_option("--listen", flags.listen, "HOST:PORT to listen on")->capture_default_str();
    app.add_option("--state-dir", flags.state_dir, "Where VMs, RAM mounts and journals are kept")
        ->capture_default_str();
    app.add_option("--driver", flags.driver,
                   "Whose VMs: \"qemu\", of the agent's own, or \"libvirt:URI\", the domains of a "
                   "libvirt (libvirt:qemu:///system)")
        ->capture_default_str();
    app.add_option("--qemu", flags.qemu, "The QEMU to start VMs with")->capture_default_str();
    app.add_option("--memory-limit", flags.memory_limit,
                   "Most guest memory for all VMs together, as 64GiB; 0: no limit")
        ->capture_default_str();
    app.add_flag("--overcommit", flags.overcommit,
                 "Take VMs with more memory than this host has: for guests that never use it all");
    app.add_option("--log-level", flags.log_level, "debug, info, warn or error")
        ->capture_default_str();
    app.add_option("--guard", flags.guard, "Path of godwit-guard (default: beside godwitd)");
    app.add_option("--resident", flags.resident,
                   "Path of libgodwit-resident.so, which QEMU is started with (default: beside "
                   "godwitd); \"none\": nothing is loaded into QEMU");
    app.add_flag("--insecure", flags.insecure,
                 "Listen beyond loopback without encryption: only on a network that you trust");
    app.add_flag("--no-io-uring", flags.no_io_uring,
                 "Data streams use plain sockets (by itself where the kernel is too old for "
                 "io_uring, or it is forbidden)");
    app.add_option("--cpus", flags.cpus,
                   "CPUs for the threads that move pages, as 0-3,6 (default: all). What answers "
                   "page faults is not bound");
    app.add_option("--nice", flags.nice, "Niceness of the threads that move pages")
        ->check(CLI::Range(0, ThreadPlacement::kMostNice))
        ->capture_default_str();
    app.add_option("--cpu-latency", flags.cpu_latency,
                   "How many us an idle CPU of this host may take to wake while a guest is frozen "
                   "or waits for its last pages; 0: idle CPUs poll. auto: 0 in a VM, 2 else; off: "
                   "as the host has it")
        ->capture_default_str();
    app.add_flag("--unsafe-no-unsettled", flags.unsafe_no_unsettled,
                 "For tests: do not read pages again that a disk may still have been writing")
        ->group("");
    app.add_option("--test-hold-at", flags.test_hold_at,
                   "For tests: stop the first migration at this step while <state>/held exists")
        ->check(CLI::IsMember(std::vector<std::string>(step::kAll.begin(), step::kAll.end())))
        ->group("");
    app.add_option("--freeze-limit", flags.freeze_limit_s,
                   "For tests: seconds after which a freeze is undone by the guard")
        ->check(CLI::Range(0.1, 60.0))
        ->group("");
}

absl::StatusOr<ThreadPlacement> placement_of(const Flags& flags) {
    ThreadPlacement placement{.cpus = {}, .nice = flags.nice};
    const absl::StatusOr<CpuLatencyLimit> latency = parse_cpu_latency(flags.cpu_latency);
    if (!latency.ok()) return annotate(latency.status(), "--cpu-latency");
    placement.cpu_latency = *latency;
    if (flags.cpus.empty()) return placement;
    absl::StatusOr<std::vector<int>> cpus = parse_cpus(flags.cpus);
    if (!cpus.ok()) return annotate(cpus.status(), "--cpus");
    placement.cpus = *std::move(cpus);
    return placement;
}

int run(int argc, char** argv) {
    CLI::App app(
        "The Godwit agent: runs VMs, and moves them to and from other agents.\n\n"
        "Example:\n  godwitd --listen 127.0.0.1:7654 --state-dir /var/lib/godwit");
    Flags flags;
    add_options(app, flags);
    app.set_version_flag("--version", GODWIT_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : kUsage;
    }

    const auto usage = [](const absl::Status& status) {
        std::cerr << "godwitd: " << status.message() << std::endl;
        return kUsage;
    };
    if (!start_logging("godwitd", flags.log_level))
        return usage(absl::InvalidArgumentError(
            fmt::format("--log-level {}: use debug, info, warn or error", flags.log_level)));
    const absl::StatusOr<HostPort> listen = parse_host_port(flags.listen);
    if (!listen.ok()) return usage(annotate(listen.status(), "--listen"));
    if (!listen->is_loopback() && !flags.insecure)
        return usage(absl::InvalidArgumentError(fmt::format(
            "--listen {}: not loopback, and connections are not encrypted yet; say --insecure if "
            "everybody on that network may control this host's VMs",
            flags.listen)));
    const absl::StatusOr<Bytes> limit = parse_bytes(flags.memory_limit);
    if (!limit.ok()) return usage(annotate(limit.status(), "--memory-limit"));
    const absl::StatusOr<ThreadPlacement> placement = placement_of(flags);
    if (!placement.ok()) return usage(placement.status());
    if (flags.driver != "qemu" &&
        (flags.driver.rfind(kLibvirt, 0) != 0 || flags.driver.size() == kLibvirt.size()))
        return usage(absl::InvalidArgumentError(
            fmt::format("--driver {}: use qemu, or libvirt:URI", flags.driver)));
    std::error_code error;
    flags.state_dir = std::filesystem::absolute(flags.state_dir, error).lexically_normal().string();
    while (flags.state_dir.size() > 1 && flags.state_dir.back() == '/') flags.state_dir.pop_back();
    if (flags.guard.empty()) flags.guard = find_beside("godwit-guard", "libexec/godwit");
    if (flags.guard.empty() || ::access(flags.guard.c_str(), X_OK) != 0)
        return usage(absl::NotFoundError(
            "godwit-guard is not beside godwitd, nor in ../libexec/godwit: say --guard PATH"));
    if (flags.resident.empty())
        flags.resident = find_beside("libgodwit-resident.so", "lib/godwit");
    else if (flags.resident == "none")
        flags.resident.clear();
    else if (::access(flags.resident.c_str(), R_OK) != 0)
        return usage(errno_status(errno, "--resident " + flags.resident));
    else
        flags.resident = std::filesystem::absolute(flags.resident, error).string();
    return serve(flags, *listen, *limit, *placement);
}

}  // namespace
}  // namespace godwit

// Migrations come and go with their threads, and malloc(3) would have eight heaps for every CPU,
// each with what a migration left free in it: on two CPUs two agents grew from 36 to 160 MiB in
// 200 migrations (./dev soak). What moves pages allocates next to nothing.
constexpr int kMallocHeaps = 4;

int main(int argc, char** argv) {
    ::mallopt(M_ARENA_MAX, kMallocHeaps);  // NOLINT(concurrency-mt-unsafe): no thread runs yet
    const int code = godwit::run(argc, argv);
    // Threads that hang, in libvirt mostly, must not meet what exit() takes down.
    if (godwit::late_calls_that_hang() > 0) ::_exit(code);
    return code;
}
