#include "bench/lab/libvirt_pair.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "engine/base/wait.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr Duration kLibvirtLookPeriod = std::chrono::milliseconds(5);
constexpr Duration kLibvirtStartLimit = std::chrono::seconds(60);
constexpr Duration kLibvirtEndLimit = std::chrono::seconds(10);
constexpr const char* kHostScript = GODWIT_SOURCE_DIR "/tests/harness/libvirt_host.sh";
// Waits for whoever lost his parent, so that the time he used is not lost.
constexpr const char* kInit = "while :; do sleep 1000000 & wait; done";
constexpr size_t kMaxLog = 400;

std::string end_of(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (text.size() > kMaxLog) text.erase(0, text.size() - kMaxLog);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

std::string namespace_of(pid_t pid, const char* kind) {
    return fmt::format("/proc/{}/ns/{}", pid, kind);
}

void add_words(std::vector<std::string>& to, const std::vector<std::string>& words) {
    to.insert(to.end(), words.begin(), words.end());
}

}  // namespace

LibvirtPair::~LibvirtPair() {
    if (!holder_) return;
    const UniqueFd ending = [&] {
        const auto started = process_start_time(init_);
        auto fd = started.ok() ? open_process({.pid = init_, .start_time = *started})
                               : absl::StatusOr<UniqueFd>(started.status());
        return fd.ok() ? *std::move(fd) : UniqueFd();
    }();
    holder_->end(SIGKILL, kLibvirtEndLimit);
    // With its first process all others of the namespace are gone.
    if (ending.valid())
        (void)wait_readable(ending.get(), -1, Clock::system().now() + kLibvirtEndLimit);
}

std::string LibvirtPair::root(int which) const {
    return fmt::format("{}/{}", options_.directory, which == 0 ? "a" : "b");
}

std::string LibvirtPair::destination_uri() const {
    return fmt::format("qemu+unix:///system?socket={}/run/libvirt-sock", root(1));
}

template <typename There>
absl::Status LibvirtPair::await(There there, const char* what) const {
    const MonotonicTime deadline = Clock::system().now() + kLibvirtStartLimit;
    while (!there()) {
        if (Clock::system().now() > deadline)
            return absl::DeadlineExceededError(fmt::format("not in time: {}", what));
        // What a script has got to, nobody tells.
        const absl::Status waited =
            wait_readable(-1, options_.cancel_fd, Clock::system().now() + kLibvirtLookPeriod);
        if (absl::IsCancelled(waited)) return waited;
    }
    return absl::OkStatus();
}

absl::Status LibvirtPair::start_namespace() {
    // A network of its own for what has no cable: two libvirts would both meddle with this host's.
    GODWIT_ASSIGN_OR_RETURN(Child holder, Child::start({"unshare", "--pid", "--net", "--fork",
                                                        "--kill-child", "bash", "-c", kInit}));
    holder_.emplace(std::move(holder));
    GODWIT_RETURN_IF_ERROR(await(
        [&] {
            // setpriv and unshare first: their child is the one.
            const std::vector<pid_t> children = children_of(holder_->pid());
            if (!children.empty()) init_ = children.front();
            return !children.empty() || holder_->wait(Clock::system().now(), -1).ok();
        },
        "a process namespace"));
    if (init_ < 0)
        return absl::PermissionDeniedError(
            fmt::format("Cannot make namespaces for libvirt: {}", end_of(holder_->err())));
    return absl::OkStatus();
}

absl::Status LibvirtPair::start_host(int which) {
    const auto index = static_cast<size_t>(which);
    std::filesystem::create_directories(root(which));
    std::vector<std::string> words = options_.hosts[index].wrapper;
    if (words.empty()) words = {"nsenter", "--net=" + namespace_of(init_, "net")};
    add_words(words,
              {"nsenter", "--pid=" + namespace_of(init_, "pid"), "unshare", "--mount", "--uts",
               kHostScript, root(which), fmt::format("lab{}", which),
               fmt::format("{0}{0}{0}{0}{0}{0}{0}{0}-1111-4111-8111-111111111111", which + 1)});
    GODWIT_ASSIGN_OR_RETURN(Child started, Child::start(words));
    Child& holder = mounts_[index].emplace(std::move(started));
    const std::string ready = root(which) + "/ready";
    GODWIT_RETURN_IF_ERROR(await(
        [&] {
            return std::filesystem::exists(ready) || holder.wait(Clock::system().now(), -1).ok();
        },
        "a host for libvirt"));
    // nsenter stays, for it has to be this side of the process namespace.
    const std::vector<pid_t> inside = children_of(holder.pid());
    if (!std::filesystem::exists(ready) || inside.empty())
        return absl::UnavailableError(
            fmt::format("Cannot make a host for libvirt: {}", end_of(holder.err())));
    mounts_pids_[index] = inside.front();
    // There is no virtlogd.
    std::ofstream(root(which) + "/etc/qemu.conf", std::ios::app) << "stdio_handler = \"file\"\n";

    words = {"nsenter", "--net=" + namespace_of(mounts_pids_[index], "net")};
    add_words(words, {"nsenter", "--pid=" + namespace_of(init_, "pid"),
                      "--mount=" + namespace_of(mounts_pids_[index], "mnt"),
                      "--uts=" + namespace_of(mounts_pids_[index], "uts"), "sh", "-c",
                      // It stays behind as a child of the namespace's first process.
                      "ip link set lo up && mount -t proc none /proc && exec libvirtd --daemon"});
    GODWIT_ASSIGN_OR_RETURN(Child daemon, Child::start(words));
    GODWIT_ASSIGN_OR_RETURN(const int code, daemon.wait(Clock::system().now() + kLibvirtStartLimit,
                                                        options_.cancel_fd));
    if (code != 0)
        return absl::UnavailableError(
            fmt::format("libvirtd does not start: {}", end_of(daemon.err())));
    return run(which, {"domcapabilities", "--emulatorbin", options_.qemu}, kLibvirtStartLimit)
        .status();
}

absl::Status LibvirtPair::start() {
    if (!started_) started_ = start_all();
    return *started_;
}

absl::Status LibvirtPair::start_all() {
    for (const char* program : {"libvirtd", "virsh"})
        if (!find_program(program).ok())
            return absl::UnimplementedError(fmt::format("there is no {} here", program));
    if (options_.directory.starts_with("/run/"))
        return absl::InvalidArgumentError(
            "libvirt's hosts have a /run of their own: choose another --scratch");
    GODWIT_RETURN_IF_ERROR(start_namespace());
    for (const int which : {0, 1}) GODWIT_RETURN_IF_ERROR(start_host(which));
    return absl::OkStatus();
}

absl::StatusOr<Child> LibvirtPair::begin(int which, const std::vector<std::string>& words) const {
    const pid_t pid = mounts_pids_[static_cast<size_t>(which)];
    std::vector<std::string> all{"nsenter", "--pid=" + namespace_of(init_, "pid"),
                                 "--mount=" + namespace_of(pid, "mnt"),
                                 "--uts=" + namespace_of(pid, "uts")};
    // nsenter's child, which is to end with it.
    add_words(all, {"setpriv", "--pdeathsig", "KILL", "--", "virsh", "-q", "-c", "qemu:///system"});
    add_words(all, words);
    return Child::start(all);
}

absl::StatusOr<std::string> LibvirtPair::run(int which, const std::vector<std::string>& words,
                                             Duration limit) const {
    GODWIT_ASSIGN_OR_RETURN(Child virsh, begin(which, words));
    GODWIT_ASSIGN_OR_RETURN(const int code,
                            virsh.wait(Clock::system().now() + limit, options_.cancel_fd));
    if (code != 0)
        return absl::FailedPreconditionError(
            fmt::format("virsh {}: {}", words.front(), end_of(virsh.err())));
    return virsh.out();
}

std::vector<pid_t> LibvirtPair::qemus_of(const std::string& domain) const {
    std::vector<pid_t> pids;
    const std::string name = fmt::format("guest={},", domain);
    for (const pid_t pid : children_of(init_)) {
        const std::string arguments = process_command_line(pid);
        if (arguments.find("qemu") != std::string::npos &&
            arguments.find(name) != std::string::npos)
            pids.push_back(pid);
    }
    return pids;
}

}  // namespace godwit
