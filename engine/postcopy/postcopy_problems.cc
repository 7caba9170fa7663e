#include "engine/postcopy/postcopy_problems.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>

#include "dirty-tracking/attach/userfaultfd_features.h"
#include "engine/base/mapping.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"

namespace godwit {
namespace {

std::optional<std::string> open_problem(UniqueFd& userfaultfd) {
    userfaultfd.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    if (userfaultfd.valid()) return std::nullopt;
    if (errno == EPERM)
        return "userfaultfd: EPERM; set vm.unprivileged_userfaultfd=1, or run as root or with "
               "CAP_SYS_PTRACE";
    if (errno == ENOSYS) return "userfaultfd: ENOSYS; the kernel needs CONFIG_USERFAULTFD";
    return std::string(errno_status(errno, "userfaultfd").message());
}

std::optional<std::string> feature_problem(int userfaultfd) {
    uffdio_api api{.api = UFFD_API, .features = kUffdFeatures};
    if (::ioctl(userfaultfd, UFFDIO_API, &api) == 0) return std::nullopt;
    return fmt::format(
        "userfaultfd can't catch missing pages of shared memory and asynchronous writes "
        "(UFFDIO_API: "
        "{}); kernel 6.7 or newer is needed",
        strerrorname_np(errno));
}

// Fills the first page of a shared mapping with bytes and the second one with zeros.
std::optional<std::string> fill_problem(int userfaultfd) {
    const UniqueFd file(::memfd_create("godwit-probe", MFD_CLOEXEC));
    constexpr size_t kSize = 2 * kPageBytes;
    if (!file.valid() || ::ftruncate(file.get(), kSize) != 0)
        return std::string(errno_status(errno, "memfd_create").message());
    const auto memory = Mapping::map_shared(file.get(), kSize);
    const auto source = Mapping::anonymous(kPageBytes);
    if (!memory.ok()) return std::string(memory.status().message());
    if (!source.ok()) return std::string(source.status().message());
    const auto address = reinterpret_cast<uintptr_t>(memory->data());
    uffdio_register registration{.range = {.start = address, .len = kSize},
                                 .mode = UFFDIO_REGISTER_MODE_MISSING};
    uffdio_copy copy{
        .dst = address, .src = reinterpret_cast<uintptr_t>(source->data()), .len = kPageBytes};
    uffdio_zeropage zero{.range = {.start = address + kPageBytes, .len = kPageBytes}};
    const char* failed = nullptr;
    if (::ioctl(userfaultfd, UFFDIO_REGISTER, &registration) != 0) {
        failed = "UFFDIO_REGISTER";
    } else if (::ioctl(userfaultfd, UFFDIO_COPY, &copy) != 0) {
        failed = "UFFDIO_COPY";
    } else if (::ioctl(userfaultfd, UFFDIO_ZEROPAGE, &zero) != 0) {
        failed = "UFFDIO_ZEROPAGE";
    }
    if (failed == nullptr) return std::nullopt;
    return fmt::format(
        "userfaultfd can't fill shared memory: {}: {}; the kernel needs "
        "CONFIG_USERFAULTFD and CONFIG_SHMEM",
        failed, strerrorname_np(errno));
}

}  // namespace

std::vector<std::string> postcopy_problems() {
    UniqueFd userfaultfd;
    std::optional<std::string> problem = open_problem(userfaultfd);
    if (!problem) problem = feature_problem(userfaultfd.get());
    if (!problem) problem = fill_problem(userfaultfd.get());
    if (!problem) return {};
    return {*std::move(problem)};
}

}  // namespace godwit
