#include "dirty-tracking/writeprotect/write_protect_problems.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <optional>

#include "dirty-tracking/attach/userfaultfd_features.h"
#include "dirty-tracking/writeprotect/pagemap_scan.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

std::optional<std::string> userfaultfd_problem() {
    UniqueFd userfaultfd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    if (!userfaultfd.valid()) {
        if (errno == EPERM)
            return "userfaultfd: EPERM; set vm.unprivileged_userfaultfd=1, or run as root or with "
                   "CAP_SYS_PTRACE";
        if (errno == ENOSYS) return "userfaultfd: ENOSYS; the kernel needs CONFIG_USERFAULTFD";
        return std::string(errno_status(errno, "userfaultfd").message());
    }
    uffdio_api api{.api = UFFD_API, .features = kUffdFeatures};
    if (::ioctl(userfaultfd.get(), UFFDIO_API, &api) == 0) return std::nullopt;
    return fmt::format(
        "userfaultfd has no asynchronous write-protect (UFFDIO_API: {}); kernel "
        "6.7 or newer is needed",
        strerrorname_np(errno));
}

bool has_ptrace_capability() {
    constexpr int kCapSysPtrace = 19;
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        unsigned long effective = 0;
        if (std::sscanf(line.c_str(), "CapEff: %lx", &effective) == 1)
            return (effective >> kCapSysPtrace & 1) != 0;
    }
    return false;
}

std::optional<std::string> yama_problem() {
    std::ifstream file("/proc/sys/kernel/yama/ptrace_scope");
    int scope = 0;
    if (!(file >> scope) || scope == 0) return std::nullopt;
    if (scope == 3) return "kernel.yama.ptrace_scope=3 forbids ptrace: set it to 2 or less";
    if (has_ptrace_capability()) return std::nullopt;
    return fmt::format(
        "kernel.yama.ptrace_scope={} and no CAP_SYS_PTRACE: set it to 0 or run as root", scope);
}

}  // namespace

std::vector<std::string> write_protect_problems() {
    std::vector<std::string> problems;
    if (auto problem = userfaultfd_problem()) problems.push_back(*std::move(problem));
    if (const absl::Status status = check_pagemap_scan(); !status.ok())
        problems.emplace_back(status.message());
    if (auto problem = yama_problem()) problems.push_back(*std::move(problem));
    return problems;
}

}  // namespace godwit
