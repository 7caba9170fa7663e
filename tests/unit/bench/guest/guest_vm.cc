#include "tests/unit/bench/guest/guest_vm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "engine/base/clock.h"
#include "engine/base/ram_block.h"

namespace godwit {
namespace {

// Far above what any guest needs: an interpreted firmware on a busy machine takes a few seconds.
constexpr std::chrono::seconds kPatience{60};
constexpr int kPollMs = 5;

std::vector<std::string> arguments_of(const GuestVmOptions& options, const std::string& ram_path) {
    std::vector<std::string> arguments = {
        "qemu-system-x86_64",
        "-machine",
        fmt::format("{},accel={},memory-backend=ram0", options.machine, options.accel),
        "-object",
        fmt::format("memory-backend-file,id=ram0,size={},mem-path={},share=on", options.memory,
                    ram_path),
        "-m",
        options.memory,
        "-smp",
        std::to_string(options.vcpu_count),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-kernel",
        GODWIT_GUEST_ELF,
        "-append",
        options.command_line};
    if (!options.seabios) arguments.insert(arguments.end(), {"-bios", "qboot.rom"});
    arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
    return arguments;
}

}  // namespace

ShmPath::ShmPath(const std::string& suffix) {
    static std::atomic<int> count = 0;
    path_ = fmt::format("/dev/shm/godwit-guest-test-{}-{}-{}", ::getpid(), count++, suffix);
}

ShmPath::~ShmPath() { ::unlink(path_.c_str()); }

std::string why_not(const std::string& accel) {
    if (accel != "kvm") return "";
    const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (kvm.valid()) return "";
    return std::string(errno_status(errno, "Cannot open /dev/kvm").message());
}

absl::StatusOr<std::unique_ptr<GuestVm>> GuestVm::start(const GuestVmOptions& options) {
    std::unique_ptr<GuestVm> vm(new GuestVm());
    vm->output_.reset(::memfd_create("qemu-output", MFD_CLOEXEC));
    if (!vm->output_.valid()) return errno_status(errno, "memfd_create");
    // Made here, so that it is there to be read before QEMU has started.
    vm->ram_file_.reset(
        ::open(vm->ram_path().c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!vm->ram_file_.valid()) return errno_status(errno, "Cannot create " + vm->ram_path());
    GODWIT_RETURN_IF_ERROR(vm->spawn(options));
    return vm;
}

absl::Status GuestVm::spawn(const GuestVmOptions& options) {
    const std::vector<std::string> arguments = arguments_of(options, ram_path());
    std::vector<char*> pointers;
    for (const std::string& argument : arguments)
        pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output_.get(), 1);
    posix_spawn_file_actions_adddup2(&actions, output_.get(), 2);
    const int error =
        ::posix_spawnp(&pid_, pointers[0], &actions, nullptr, pointers.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        pid_ = -1;
        return errno_status(error, "Cannot start qemu-system-x86_64");
    }
    pid_fd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!pid_fd_.valid()) return errno_status(errno, "pidfd_open");
    return absl::OkStatus();
}

GuestVm::~GuestVm() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

std::string GuestVm::serial() const {
    struct stat info {};
    if (::fstat(output_.get(), &info) != 0) return "";
    std::string text(static_cast<size_t>(info.st_size), '\0');
    if (!read_fully(output_.get(), text.data(), text.size(), 0).ok()) return "";
    return text;
}

absl::StatusOr<Mailbox> GuestVm::wait_for(const std::function<bool(const Mailbox&)>& done) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, MailboxReader::open(ram_path()));
    const MonotonicTime deadline = Clock::system().now() + kPatience;
    while (Clock::system().now() < deadline) {
        const absl::StatusOr<Mailbox> mailbox = reader.read();
        if (mailbox.ok() && done(*mailbox)) return *mailbox;
        pollfd ended{.fd = pid_fd_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&ended, 1, kPollMs) > 0) return absl::AbortedError("QEMU ended:\n" + serial());
    }
    return absl::DeadlineExceededError("The guest did not get there:\n" + serial());
}

absl::StatusOr<Mailbox> GuestVm::wait_until_running() {
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, wait_for([](const Mailbox& now) {
                                return now.state >= static_cast<uint64_t>(GuestState::kRunning);
                            }));
    if (mailbox.state != static_cast<uint64_t>(GuestState::kRunning))
        return absl::FailedPreconditionError(mailbox.message);
    return mailbox;
}

absl::Status GuestVm::read_page(uint64_t offset, std::vector<char>& page) const {
    page.resize(kPageBytes);
    return read_fully(ram_file_.get(), page.data(), page.size(), offset);
}

absl::Status GuestVm::write(uint64_t offset, std::span<const char> bytes) const {
    return write_fully(ram_file_.get(), bytes.data(), bytes.size(), offset);
}

void GuestVm::freeze() const {
    ::kill(pid_, SIGSTOP);
    siginfo_t info;
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED);
}

void GuestVm::thaw() const { ::kill(pid_, SIGCONT); }

}  // namespace godwit
