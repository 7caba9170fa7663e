// A host with a libvirt of its own, on this one: mount, UTS and network namespaces, host UUID and
// host name make virsh take it for another machine. The network namespace, which has a bridge
// "br0", is libvirt's alone: agents talk over loopback.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/harness/agent.h"
#include "tests/harness/command.h"

namespace godwit::testing {

struct DomainOptions {
    std::string name = "vm";
    std::string uuid = "6f6b1d2e-0000-4000-8000-000000000001";
    std::string type = "kvm";  // kvm, qemu
    int memory_mib = 256;
    int vcpus = 1;
    std::string kernel = {};  // empty: the freestanding guest
    std::string initrd = {};
    std::string append = "ws=64M rate=20000 pattern=random";
    std::string memory_backing = "<source type='file'/><access mode='shared'/>";
    std::string serial = "<serial type='pty'/>";
    std::string devices = {};  // further XML
    std::string usb = "none";  // the model of its USB controller
};
// Under KVM, or, said aloud, TCG where there is none: with less to do, then.
DomainOptions domain_here(DomainOptions options = {});
// A guest as a domain.
std::string domain_xml(const DomainOptions& options);

enum class LibvirtKind {
    kDaemon,
    kEmbedded,  // within the agent; virsh can be its only user only while there is no agent
};

enum class Emulation { kNeedsKvm, kTakesTcg };

struct HostProcess {
    pid_t pid = 0;
    std::string words;  // its arguments
};

// libvirtd and virtlogd are started by hand, without systemd. At the end: the QEMUs below it are
// killed by pid, both daemons are ended, nothing of it is left.
class LibvirtHost {
  public:
    static constexpr const char* kMemory = "/run/godwit-ram";
    // `name`: 1 to 8 letters. There is none where there is no KVM, if it needs that: it would be
    // started for nothing.
    explicit LibvirtHost(const std::string& name, const std::string& memory_directory = kMemory,
                         LibvirtKind kind = LibvirtKind::kDaemon,
                         Emulation emulation = Emulation::kNeedsKvm);
    ~LibvirtHost();
    LibvirtHost(const LibvirtHost&) = delete;
    LibvirtHost& operator=(const LibvirtHost&) = delete;

    // Why there is none, or empty.
    [[nodiscard]] const std::string& problem() const { return problem_; }
    // For an agent with this libvirt's domains.
    [[nodiscard]] AgentOptions agent() const;
    // `virsh WORDS…`.
    CommandResult virsh(const std::vector<std::string>& words) const;
    BackgroundCommand virsh_in_background(const std::vector<std::string>& words) const;
    // The same's stdout without the empty lines at its end.
    std::string virsh_text(const std::vector<std::string>& words) const;
    // What libvirt tells of the lives of its domains, a line each, until SIGINT. Returns when it is
    // heard: the first lines are of a domain named "herald", which comes and goes.
    BackgroundCommand follow_lives() const;
    // Any program, within the host.
    [[nodiscard]] CommandResult run(const std::vector<std::string>& words) const;
    // How that path of the host is reached from outside.
    [[nodiscard]] std::string path_inside(const std::string& path) const;
    // Writes the XML to a file that virsh can read; returns its path.
    std::string write_xml(const std::string& xml) const;
    // Entries of libvirt's memory directory, those that only keep RAM among them.
    [[nodiscard]] std::vector<std::string> memory_files() const;
    // RAM files of domains, as they are reached from outside. Of any thread.
    [[nodiscard]] std::vector<std::string> ram_files() const;
    // What libvirt has on disk of running domains: pid files, records, directories of sockets.
    [[nodiscard]] std::vector<std::string> run_files() const;
    // Who lives in the host's namespaces, but for its own daemons.
    [[nodiscard]] std::vector<HostProcess> processes() const;
    // What libvirt runs as QEMU, alive.
    [[nodiscard]] std::vector<pid_t> qemu_pids() const;

    // For a virsh on another host, and for the socket of libvirt's own migration.
    [[nodiscard]] std::string peer_uri() const;
    [[nodiscard]] std::string migration_uri() const { return "unix://" + root_ + "/migration"; }

    // In order; start_libvirtd() starts it again.
    void stop_libvirtd();
    void kill_libvirtd();
    // To libvirtd: SIGSTOP makes it hang.
    void signal_libvirtd(int number) const {
        if (libvirtd_) libvirtd_->signal(number);
    }
    void start_libvirtd();

  private:
    void start_daemons();
    void prepare_embedded();
    // Of an embedded libvirt.
    [[nodiscard]] std::string embedded_root() const { return root_ + "/embed"; }
    // A directory of files about running domains, seen from outside.
    [[nodiscard]] std::string run_directory() const;
    [[nodiscard]] std::vector<std::string> inside(const std::vector<std::string>& words,
                                                  bool network) const;

    [[nodiscard]] std::vector<std::string> virsh_command(
        const std::vector<std::string>& words) const;

    std::string root_;
    std::string memory_directory_;
    LibvirtKind kind_;
    std::string uri_ = "qemu:///system";
    std::string problem_;
    std::optional<BackgroundCommand> holder_;
    std::optional<BackgroundCommand> virtlogd_;
    std::optional<BackgroundCommand> libvirtd_;
};

// Defines a domain, starts it, waits until its guest says `running`.
void start_domain(LibvirtHost& host, TestAgent& agent, const DomainOptions& options);

}  // namespace godwit::testing
