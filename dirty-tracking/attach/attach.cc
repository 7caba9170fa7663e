#include "dirty-tracking/attach/attach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "dirty-tracking/attach/gadgets.h"
#include "dirty-tracking/attach/remote_call.h"
#include "dirty-tracking/attach/thread_choice.h"
#include "dirty-tracking/attach/userfaultfd_features.h"

namespace godwit {
namespace {

constexpr int kMaxAttempts = 12;  // signals that come in between are rare: one is remarkable
constexpr int kAttemptsPerThread = 3;
constexpr int kDeadlineParts = 4;  // of the deadline, for one thread to stop
// A killed process loses its threads one by one before its descriptor says so.
constexpr int kEndTakesMs = 100;

bool ends_within(int pidfd, int timeout_ms) {
    pollfd ended{pidfd, POLLIN, 0};
    return ::poll(&ended, 1, timeout_ms) > 0;
}

absl::StatusOr<UniqueFd> take_descriptor(int pidfd, pid_t pid, int number) {
    UniqueFd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)));
    if (taken.valid()) return taken;
    if (errno == ESRCH) return absl::NotFoundError(fmt::format("process {} ended", pid));
    return errno_status(errno, fmt::format("pidfd_getfd of descriptor {} of process {} (needs "
                                           "CAP_SYS_PTRACE or kernel.yama.ptrace_scope=0)",
                                           number, pid));
}

// The features that a userfaultfd was given, 0 before its handshake ("API: aa:<features>:<all>").
uint64_t features_of(pid_t pid, int number) {
    std::ifstream info(fmt::format("/proc/{}/fdinfo/{}", pid, number));
    for (std::string line; std::getline(info, line);) {
        unsigned api = 0;
        unsigned features = 0;
        if (std::sscanf(line.c_str(), "API:\t%x:%x:", &api, &features) == 2) return features;
    }
    return 0;
}

// A userfaultfd of an earlier agent. One with other features is QEMU's own: left alone.
std::optional<int> find_earlier(pid_t pid) {
    std::error_code error;
    std::filesystem::directory_iterator entries(fmt::format("/proc/{}/fd", pid), error);
    for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
        std::error_code gone;
        const auto target = std::filesystem::read_symlink(entries->path(), gone);
        if (gone || target != "anon_inode:[userfaultfd]") continue;
        const std::string name = entries->path().filename().string();
        int number = -1;
        std::from_chars(name.data(), name.data() + name.size(), number);
        constexpr uint64_t kShown = 0x7fffffff;  // the top bit says: handshake done
        const uint64_t features = features_of(pid, number) & kShown;
        if (features == 0 || (features & kUffdFeatures) == kUffdFeatures) return number;
    }
    return std::nullopt;
}

absl::Status handshake(int userfaultfd, bool adopted) {
    uffdio_api api{.api = UFFD_API, .features = kUffdFeatures};
    if (::ioctl(userfaultfd, UFFDIO_API, &api) == 0) return absl::OkStatus();
    if (errno == EINVAL && adopted) return absl::OkStatus();  // done by the earlier agent
    if (errno == EINVAL) {
        return absl::FailedPreconditionError(
            "UFFDIO_API: EINVAL; kernel 6.7 or newer is needed (asynchronous write-protect)");
    }
    return errno_status(errno, "UFFDIO_API");
}

absl::Status call_failed(int error_number) {
    switch (error_number) {
        case EPERM:
            return absl::PermissionDeniedError(
                "userfaultfd in the process: EPERM; set vm.unprivileged_userfaultfd=1, or run QEMU "
                "as root or with CAP_SYS_PTRACE (a seccomp filter may refuse it as well)");
        case ENOSYS:
            return absl::UnimplementedError(
                "userfaultfd in the process: ENOSYS; the kernel needs CONFIG_USERFAULTFD");
        default:
            return errno_status(error_number, "userfaultfd in the process");
    }
}

// A thread whose returns are checked against a shadow stack can't be given a return address.
bool has_shadow_stack(pid_t pid, pid_t thread) {
    std::ifstream status(fmt::format("/proc/{}/task/{}/status", pid, thread));
    for (std::string line; std::getline(status, line);)
        if (line.rfind("x86_Thread_features:", 0) == 0)
            return line.find("shstk") != std::string::npos;
    return false;
}

bool worth_another_try(const absl::Status& status) {
    return absl::IsAborted(status) || absl::IsNotFound(status) || absl::IsDeadlineExceeded(status);
}

class Attacher {
  public:
    Attacher(pid_t pid, std::span<const pid_t> vcpu_threads, const AttachOptions& options)
        : pid_(pid),
          vcpu_threads_(vcpu_threads),
          options_(options),
          deadline_(Clock::system().now() + options.deadline) {}

    absl::StatusOr<Attachment> run() {
        pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
        if (!pidfd_.valid()) {
            if (errno == ESRCH || errno == EINVAL)
                return absl::NotFoundError(fmt::format("there is no process {}", pid_));
            return errno_status(errno, "pidfd_open");
        }
        if (ends_within(pidfd_.get(), 0)) return ended();
        absl::StatusOr<Attachment> attachment = adopt_or_make();
        if (!attachment.ok() && ends_within(pidfd_.get(), kEndTakesMs)) return ended();
        return attachment;
    }

  private:
    absl::StatusOr<Attachment> adopt_or_make() {
        if (const std::optional<int> number = find_earlier(pid_)) return take(*number, true);
        GODWIT_RETURN_IF_ERROR(prepare());
        return call_on_some_thread();
    }

    absl::Status prepare() {
        const std::string path = fmt::format("/proc/{}/mem", pid_);
        memory_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        if (!memory_.valid() && (errno == EACCES || errno == EPERM)) {
            return absl::PermissionDeniedError(
                fmt::format("open of {}: no permission; the agent needs CAP_SYS_PTRACE, or the "
                            "same user as QEMU and kernel.yama.ptrace_scope=0",
                            path));
        }
        if (!memory_.valid()) return errno_status(errno, fmt::format("open of {}", path));
        GODWIT_ASSIGN_OR_RETURN(call_.gadgets, find_gadgets(pid_, memory_.get()));
        call_.process = pid_;
        call_.memory = memory_.get();
        call_.number = SYS_userfaultfd;
        call_.arguments = {O_CLOEXEC | O_NONBLOCK, 0, 0};
        call_.after_step = options_.after_step;
        return absl::OkStatus();
    }

    absl::Status ended() const {
        return absl::NotFoundError(fmt::format("process {} ended", pid_));
    }

    absl::StatusOr<Attachment> call_on_some_thread() {
        absl::Status last = absl::DeadlineExceededError("no time was given");
        for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
            const MonotonicTime now = Clock::system().now();
            if (now >= deadline_) return absl::DeadlineExceededError(last.message());
            GODWIT_ASSIGN_OR_RETURN(const auto threads, choose_threads(pid_, vcpu_threads_));
            const size_t index = static_cast<size_t>(attempt / kAttemptsPerThread);
            call_.thread = threads[index % threads.size()].thread;
            call_.deadline = std::min(deadline_, now + options_.deadline / kDeadlineParts);
            if (has_shadow_stack(pid_, call_.thread))
                return absl::FailedPreconditionError("the process runs with a shadow stack");
            absl::StatusOr<RemoteResult> result = make_remote_call(call_);
            if (result.ok()) return take_result(*result);
            if (!worth_another_try(result.status())) return result.status();
            last = result.status();
            // The thread may have finished the call after we let go of it.
            if (const std::optional<int> number = find_earlier(pid_)) return take(*number, true);
        }
        return last;
    }

    absl::StatusOr<Attachment> take_result(const RemoteResult& result) {
        if (result.value < 0) return call_failed(static_cast<int>(-result.value));
        GODWIT_ASSIGN_OR_RETURN(Attachment attachment, take(static_cast<int>(result.value), false));
        attachment.hold = result.hold;
        attachment.thread = call_.thread;
        return attachment;
    }

    absl::StatusOr<Attachment> take(int number, bool adopted) {
        GODWIT_ASSIGN_OR_RETURN(UniqueFd taken, take_descriptor(pidfd_.get(), pid_, number));
        if (options_.after_step) options_.after_step(AttachStep::kDescriptorTaken);
        GODWIT_RETURN_IF_ERROR(handshake(taken.get(), adopted));
        return Attachment{.userfaultfd = std::move(taken), .adopted = adopted};
    }

    pid_t pid_;
    std::span<const pid_t> vcpu_threads_;
    const AttachOptions& options_;
    MonotonicTime deadline_;
    UniqueFd pidfd_;
    UniqueFd memory_;
    RemoteCall call_;
};

}  // namespace

absl::StatusOr<Attachment> attach_userfaultfd(pid_t pid, std::span<const pid_t> vcpu_threads,
                                              const AttachOptions& options) {
    absl::StatusOr<Attachment> attachment = Attacher(pid, vcpu_threads, options).run();
    if (attachment.ok()) return attachment;
    return annotate(attachment.status(), fmt::format("Cannot attach to process {}", pid));
}

}  // namespace godwit
