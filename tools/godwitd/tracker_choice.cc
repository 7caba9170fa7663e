#include "tools/godwitd/tracker_choice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "dirty-tracking/discards/discard_tracker.h"
#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"
#include "dirty-tracking/tracker/fallback_tracker.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "dirty-tracking/writeprotect/write_protect_problems.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr std::array<std::string_view, 3> kNames{"auto", "uffd-wp", "kvm-dirty-log"};

double microseconds(Duration duration) {
    return std::chrono::duration<double, std::micro>(duration).count();
}

absl::StatusOr<TrackerChoice> choose_kvm(Vm& vm, const std::vector<pid_t>& vcpus) {
    if (vm.spec().accel() != v1::ACCEL_KVM)
        return absl::FailedPreconditionError(
            "the VM runs under TCG: there is no KVM to keep a log");
    if (vm.spec().no_resident())
        return absl::FailedPreconditionError(
            "nothing of Godwit's is preloaded into its QEMU (a VM file says resident: false; of a "
            "domain "
            "of libvirt: godwit libvirt enable --resident)");
    GODWIT_ASSIGN_OR_RETURN(auto tracker, KvmDirtyLogTracker::create(vm.pid(), vm.ram_blocks(),
                                                                     vcpus, vm.resident_socket()));
    const double hold_us = microseconds(tracker->attach_hold());
    return TrackerChoice{.tracker = std::move(tracker), .attach_hold_us = hold_us};
}

absl::StatusOr<TrackerChoice> choose_uffd(Vm& vm, const std::vector<pid_t>& vcpus) {
    GODWIT_ASSIGN_OR_RETURN(auto tracker,
                            UffdWriteProtectTracker::create(vm.pid(), vm.ram_blocks(), vcpus));
    TrackerChoice choice{.attach_hold_us = microseconds(tracker->attach_hold())};
    // Without it, discards are not seen, as ever.
    absl::StatusOr<std::unique_ptr<ResidentClient>> resident =
        ResidentClient::connect(vm.resident_socket(), vm.pid());
    if (resident.ok()) {
        choice.tracker = std::make_unique<DiscardTracker>(std::move(tracker), *std::move(resident),
                                                          vm.ram_blocks());
    } else {
        choice.tracker = std::move(tracker);
    }
    return choice;
}

// Whether the log can be switched on is known when it was.
absl::Status try_out(DirtyTracker& tracker) {
    GODWIT_RETURN_IF_ERROR(tracker.start());
    return tracker.stop();
}

absl::StatusOr<TrackerChoice> choose_by_name(Vm& vm, const std::vector<pid_t>& vcpus) {
    absl::StatusOr<TrackerChoice> kvm = choose_kvm(vm, vcpus);
    const absl::Status status = kvm.ok() ? try_out(*kvm->tracker) : kvm.status();
    if (status.ok()) return kvm;
    return absl::Status(
        status.code(),
        fmt::format("This VM can't be tracked with kvm-dirty-log: {}; use --tracker auto",
                    std::string(status.message())));
}

absl::StatusOr<TrackerChoice> choose_best(Vm& vm, const std::vector<pid_t>& vcpus) {
    const auto other = [&vm, vcpus]() -> absl::StatusOr<std::unique_ptr<DirtyTracker>> {
        GODWIT_ASSIGN_OR_RETURN(TrackerChoice uffd, choose_uffd(vm, vcpus));
        return std::move(uffd.tracker);
    };
    absl::StatusOr<TrackerChoice> best = choose_kvm(vm, vcpus);
    if (best.ok()) {
        best->tracker = std::make_unique<FallbackTracker>(std::move(best->tracker), other);
        return best;
    }
    GODWIT_ASSIGN_OR_RETURN(TrackerChoice uffd, choose_uffd(vm, vcpus));
    uffd.tracker = std::make_unique<FallbackTracker>(std::move(uffd.tracker),
                                                     std::string(best.status().message()));
    return uffd;
}

std::vector<std::string> kvm_log_problems(bool has_kvm, const std::string& resident_library) {
    if (!has_kvm) return {"/dev/kvm does not work here"};
    std::vector<std::string> problems;
    const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (::ioctl(kvm.get(), KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) <= 0)
        problems.emplace_back("KVM lacks KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 (Linux 5.0)");
    if (resident_library.empty())
        problems.emplace_back(
            "libgodwit-resident.so is neither beside godwitd nor in ../lib/godwit: say --resident");
    return problems;
}

}  // namespace

absl::StatusOr<std::string> tracker_name(const std::string& name) {
    if (name.empty()) return std::string(kNames.front());
    if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return name;
    return absl::InvalidArgumentError(fmt::format(
        "tracker \"{}\" is unknown; this agent has: auto, uffd-wp, kvm-dirty-log", name));
}

absl::StatusOr<TrackerChoice> choose_tracker(Vm& vm, const std::string& name) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<pid_t> vcpus, vm.vcpu_threads());
    if (name == "uffd-wp") return choose_uffd(vm, vcpus);
    return name == "kvm-dirty-log" ? choose_by_name(vm, vcpus) : choose_best(vm, vcpus);
}

HostTrackers host_trackers(bool has_kvm, const std::string& resident_library) {
    HostTrackers host;
    const auto add = [&](const char* name, const std::vector<std::string>& problems) {
        if (problems.empty()) host.names.emplace_back(name);
        for (const std::string& problem : problems)
            host.problems.push_back(fmt::format("{}: {}", name, problem));
    };
    const std::vector<std::string> uffd = write_protect_problems();
    add("uffd-wp", uffd);
    // It needs the other one for what QEMU itself writes.
    std::vector<std::string> kvm = kvm_log_problems(has_kvm, resident_library);
    kvm.insert(kvm.end(), uffd.begin(), uffd.end());
    add("kvm-dirty-log", kvm);
    return host;
}

}  // namespace godwit
