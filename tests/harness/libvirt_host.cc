#include "tests/harness/libvirt_host.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kDaemonStartLimit = std::chrono::seconds(60);
constexpr Duration kDaemonEndLimit = std::chrono::seconds(20);
constexpr Duration kDomainBootLimit = std::chrono::seconds(60);
constexpr const char* kHugetlbfs = "/run/godwit-huge";  // where libvirt_host.sh mounts it
constexpr const char* kDomainFirmware = "/usr/share/qemu/qboot.rom";

// What a libvirtd has found out about the QEMUs here, in seconds of trying: in the build tree, for
// the next one, which looks whether it still holds.
std::string kept_capabilities() { return program("../libvirt-capabilities"); }

// The CPUs that this process may use, as taskset takes them.
std::vector<std::string> own_cpus() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    std::vector<std::string> cpus;
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return {"0"};
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &allowed)) cpus.push_back(std::to_string(cpu));
    return cpus;
}

void copy_directory(const std::string& from, const std::string& to) {
    std::error_code ignored;
    if (!fs::exists(from)) return;
    fs::create_directories(to, ignored);
    fs::copy(from, to, fs::copy_options::recursive, ignored);
}

void end(std::optional<BackgroundCommand>& command) {
    if (!command) return;
    command->signal(SIGTERM);
    if (!command->wait(kDaemonEndLimit)) {
        command->signal(SIGKILL);
        command->wait(kDaemonEndLimit);
    }
    command.reset();
}

}  // namespace

DomainOptions domain_here(DomainOptions options) {
    if (accel_here() == "kvm") return options;
    options.type = "qemu";
    if (options.append == DomainOptions().append)
        options.append = "ws=16M rate=5000 pattern=random";
    return options;
}

std::string domain_xml(const DomainOptions& options) {
    const bool kvm = options.type == "kvm";
    // Software-assisted KVM offers this MSR and then refuses it.
    const char* cpu =
        kvm ? "<cpu mode='host-passthrough'><feature policy='disable' name='arch-capabilities'/>"
              "</cpu>"
            : "<cpu mode='custom'><model>qemu64</model></cpu>";
    const std::string firmware =
        fs::exists(kDomainFirmware)
            ? fmt::format("<loader type='rom' readonly='yes'>{}</loader>", kDomainFirmware)
            : std::string();
    const bool own = options.kernel.empty();
    const std::string initrd =
        options.initrd.empty() ? std::string() : fmt::format("<initrd>{}</initrd>", options.initrd);
    return fmt::format(
        "<domain type='{}'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>{}</memory>"
        "<vcpu>{}</vcpu><memoryBacking>{}</memoryBacking>"
        "<os><type arch='x86_64' machine='q35'>hvm</type>{}<kernel>{}</kernel>{}"
        "<cmdline>{}</cmdline></os><features><acpi/></features>{}"
        "<devices>{}<controller type='usb' model='{}'/>{}</devices></domain>\n",
        options.type, options.name, options.uuid, options.memory_mib, options.vcpus,
        options.memory_backing, own ? firmware : std::string(),
        own ? program("guest.elf") : options.kernel, initrd,
        own ? fmt::format("{} vcpus={}", options.append, options.vcpus) : options.append, cpu,
        options.serial, options.usb, options.devices);
}

LibvirtHost::LibvirtHost(const std::string& name, const std::string& memory_directory,
                         LibvirtKind kind, Emulation emulation)
    : memory_directory_(memory_directory), kind_(kind) {
    if (emulation == Emulation::kNeedsKvm) problem_ = missing("kvm");
    if (!problem_.empty()) return;
    if (::access("/usr/sbin/libvirtd", X_OK) != 0 || ::access("/usr/sbin/virtlogd", X_OK) != 0) {
        problem_ = "libvirtd and virtlogd are not installed";
        return;
    }
    std::string pattern = "/tmp/gwl-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    const std::string uuid = fmt::format("{:0<8}-1111-4111-8111-111111111111",
                                         fmt::format("{:02x}", static_cast<int>(name.back())));
    holder_.emplace(std::vector<std::string>{
        "env", "GODWIT_TEST_MEMORY_DIR=" + memory_directory, "unshare", "--mount", "--uts", "--net",
        GODWIT_HARNESS_DIR "/libvirt_host.sh", root_, name, uuid});
    const bool made = eventually(kDaemonStartLimit, [&] {
        return fs::exists(root_ + "/ready") || holder_->wait(Duration::zero());
    });
    if (!made || holder_->wait(Duration::zero())) {
        problem_ = "namespaces cannot be made here: " + holder_->result().err;
        return;
    }
    if (kind == LibvirtKind::kDaemon)
        start_daemons();
    else
        prepare_embedded();
}

void LibvirtHost::prepare_embedded() {
    uri_ = "qemu:///embed?root=" + embedded_root();
    copy_directory(kept_capabilities(), embedded_root() + "/cache/qemu/capabilities");
    fs::create_directories(embedded_root() + "/etc");
    fs::copy(root_ + "/etc/qemu.conf", embedded_root() + "/etc/qemu.conf");
    std::ofstream(embedded_root() + "/etc/qemu.conf", std::ios::app)
        << "stdio_handler = \"file\"\n";  // there is no virtlogd
}

void LibvirtHost::start_daemons() {
    const std::string probed = root_ + "/cache/qemu/capabilities";
    copy_directory(kept_capabilities(), probed);
    virtlogd_.emplace(inside({"/usr/sbin/virtlogd"}, true));
    start_libvirtd();
    if (!problem_.empty() || fs::exists(kept_capabilities())) return;
    const std::string fresh = fmt::format("{}.{}", kept_capabilities(), ::getpid());
    copy_directory(probed, fresh);
    std::error_code ignored;
    fs::rename(fresh, kept_capabilities(), ignored);
    fs::remove_all(fresh, ignored);
}

// libvirtd believes what is kept only where CPUID says what it said, and CPUID has the number of
// the CPU that asks: so each starts on the same one.
void LibvirtHost::start_libvirtd() {
    const std::vector<std::string> cpus = own_cpus();
    libvirtd_.emplace(inside({"taskset", "--cpu-list", cpus.front(), "/usr/sbin/libvirtd"}, true));
    if (!eventually(kDaemonStartLimit, [&] { return virsh({"version"}).exit_code == 0; })) {
        problem_ = "libvirtd does not start: " + libvirtd_->result().err;
        return;
    }
    CommandResult freed;
    // A thread may end while taskset looks at them all.
    const bool is_free = eventually(kDaemonStartLimit, [&] {
        freed = run_command({"taskset", "--all-tasks", "--cpu-list", "--pid",
                             fmt::format("{}", fmt::join(cpus, ",")),
                             std::to_string(libvirtd_->pid())});
        return freed.exit_code == 0;
    });
    if (!is_free) problem_ = "libvirtd stays on one CPU: " + freed.err;
}

void LibvirtHost::stop_libvirtd() { end(libvirtd_); }

void LibvirtHost::kill_libvirtd() {
    libvirtd_->signal(SIGKILL);
    libvirtd_->wait(kDaemonEndLimit);
    libvirtd_.reset();
}

LibvirtHost::~LibvirtHost() {
    if (root_.empty()) return;
    std::vector<pid_t> qemus = qemu_pids();
    // Those that libvirt has lost sight of.
    for (const HostProcess& process : processes())
        if (process.words.find("guest=") != std::string::npos) qemus.push_back(process.pid);
    for (const pid_t pid : qemus) {
        ::kill(pid, SIGKILL);
        eventually(kDaemonEndLimit, [&] { return ::kill(pid, 0) != 0; });
    }
    if (::testing::Test::HasFailure()) {
        for (const auto& entry : fs::recursive_directory_iterator(root_ + "/log")) {
            if (!entry.is_regular_file()) continue;
            const std::ifstream file(entry.path());
            std::printf("---- %s ----\n", entry.path().c_str());
            std::fflush(stdout);
            run_command({"tail", "-n", "20", entry.path().string()});
        }
    }
    end(libvirtd_);
    end(virtlogd_);
    end(holder_);
    std::error_code ignored;
    if (!root_.empty()) fs::remove_all(root_, ignored);
}

std::vector<std::string> LibvirtHost::inside(const std::vector<std::string>& words,
                                             bool network) const {
    const std::string target = fmt::format("/proc/{}/ns", holder_->pid());
    std::vector<std::string> all = {"nsenter", "--mount=" + target + "/mnt",
                                    "--uts=" + target + "/uts"};
    if (network) all.push_back("--net=" + target + "/net");
    all.insert(all.end(), words.begin(), words.end());
    return all;
}

std::string LibvirtHost::path_inside(const std::string& path) const {
    return fmt::format("/proc/{}/root{}", holder_->pid(), path);
}

AgentOptions LibvirtHost::agent() const {
    if (!problem_.empty()) return {};
    return {.wrapper = inside({}, false),
            .lasting_flags = {"--driver", fmt::format("libvirt:{}", uri_)}};
}

std::vector<std::string> LibvirtHost::virsh_command(const std::vector<std::string>& words) const {
    std::vector<std::string> all = {"virsh", "-q", "-c", uri_};
    all.insert(all.end(), words.begin(), words.end());
    return inside(all, false);
}

CommandResult LibvirtHost::virsh(const std::vector<std::string>& words) const {
    return run_command(virsh_command(words));
}

BackgroundCommand LibvirtHost::virsh_in_background(const std::vector<std::string>& words) const {
    return BackgroundCommand(virsh_command(words));
}

BackgroundCommand LibvirtHost::follow_lives() const {
    std::vector<std::string> words = virsh_command({"event", "--event", "lifecycle", "--loop"});
    // A line at a time, into a pipe too.
    words.insert(std::find(words.begin(), words.end(), "virsh"), {"stdbuf", "-oL"});
    BackgroundCommand lives(words);
    DomainOptions herald;
    herald.name = "herald";
    herald.uuid = "6f6b1d2e-0000-4000-8000-0000000000fe";
    const std::string file = write_xml(domain_xml(herald));
    EXPECT_TRUE(eventually(kDaemonStartLimit,
                           [&] {
                               virsh({"define", file});
                               virsh({"undefine", "herald"});
                               return lives.result().out.find("Undefined") != std::string::npos;
                           }))
        << "libvirt's events are not heard: " << lives.result().err;
    return lives;
}

std::string LibvirtHost::virsh_text(const std::vector<std::string>& words) const {
    const CommandResult result = virsh(words);
    EXPECT_EQ(result.exit_code, 0) << words.front() << ": " << result.err;
    std::string text = result.out;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

CommandResult LibvirtHost::run(const std::vector<std::string>& words) const {
    return run_command(inside(words, true));
}

std::string LibvirtHost::write_xml(const std::string& xml) const {
    std::string path = root_ + "/domain.xml";
    std::ofstream(path) << xml;
    return path;
}

std::string LibvirtHost::peer_uri() const {
    return fmt::format("qemu+unix:///system?socket={}/run/libvirt-sock", root_);
}

std::vector<std::string> LibvirtHost::memory_files() const {
    std::vector<std::string> files;
    for (const std::string& mount : {memory_directory_, std::string(kHugetlbfs)}) {
        std::error_code ignored;
        const std::string directory = path_inside(mount + "/libvirt/qemu");
        for (const auto& entry : fs::recursive_directory_iterator(directory, ignored))
            files.push_back(entry.path().filename().string());
    }
    return files;
}

std::vector<std::string> LibvirtHost::ram_files() const {
    std::vector<std::string> files;
    std::error_code error;
    // They come and go while this looks.
    fs::recursive_directory_iterator at(path_inside(memory_directory_ + "/libvirt/qemu"), error);
    for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
        std::error_code gone;
        if (at->is_regular_file(gone)) files.push_back(at->path().string());
    }
    return files;
}

std::vector<std::string> LibvirtHost::run_files() const {
    std::vector<std::string> files;
    std::error_code ignored;
    // driver.pid is libvirtd itself.
    for (const auto& entry : fs::directory_iterator(run_directory(), ignored))
        if ((entry.path().extension() == ".pid" || entry.path().extension() == ".xml") &&
            entry.path().stem() != "driver")
            files.push_back(entry.path().string());
    for (const auto& entry : fs::directory_iterator(root_ + "/lib/qemu", ignored))
        if (entry.path().filename().string().rfind("domain-", 0) == 0)
            files.push_back(entry.path().string());
    return files;
}

std::vector<HostProcess> LibvirtHost::processes() const {
    std::vector<HostProcess> found;
    std::error_code ignored;
    const fs::path ours = fs::read_symlink(fmt::format("/proc/{}/ns/mnt", holder_->pid()), ignored);
    std::set<std::string> own = {std::to_string(holder_->pid())};
    for (const auto* daemon : {&virtlogd_, &libvirtd_})
        if (daemon->has_value()) own.insert(std::to_string((*daemon)->pid()));
    for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
        const std::string pid = entry.path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos || own.count(pid) > 0 ||
            fs::read_symlink(entry.path() / "ns/mnt", ignored) != ours)
            continue;
        // Of one that has just gone nothing can be read, which an iterator would throw.
        const std::ifstream file(entry.path() / "cmdline", std::ios::binary);
        std::ostringstream text;
        text << file.rdbuf();
        std::string words = text.str();
        // A zombie has none.
        if (words.empty()) continue;
        std::replace(words.begin(), words.end(), '\0', ' ');
        found.push_back({static_cast<pid_t>(std::stol(pid)), std::move(words)});
    }
    return found;
}

std::string LibvirtHost::run_directory() const {
    return kind_ == LibvirtKind::kDaemon ? path_inside("/run/libvirt/qemu")
                                         : embedded_root() + "/run/qemu";
}

std::vector<pid_t> LibvirtHost::qemu_pids() const {
    std::vector<pid_t> pids;
    std::error_code ignored;
    if (!holder_) return pids;
    for (const auto& entry : fs::directory_iterator(run_directory(), ignored)) {
        pid_t pid = 0;
        // driver.pid is libvirtd itself.
        if (entry.path().extension() == ".pid" && entry.path().stem() != "driver" &&
            (std::ifstream(entry.path()) >> pid) && ::kill(pid, 0) == 0)
            pids.push_back(pid);
    }
    return pids;
}

void start_domain(LibvirtHost& host, TestAgent& agent, const DomainOptions& options) {
    ASSERT_EQ(host.problem(), "");
    const CommandResult defined = host.virsh({"define", host.write_xml(domain_xml(options))});
    ASSERT_EQ(defined.exit_code, 0) << defined.err;
    const CommandResult started = host.virsh({"start", options.name});
    ASSERT_EQ(started.exit_code, 0) << started.err;
    ASSERT_TRUE(
        eventually(kDomainBootLimit,
                   [&] { return testimony(agent, options.name).state == GuestState::kRunning; }))
        << "the guest did not boot: state "
        << static_cast<int>(testimony(agent, options.name).state);
}

}  // namespace godwit::testing
