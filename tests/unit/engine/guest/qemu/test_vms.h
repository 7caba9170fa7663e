// What the tests with real QEMUs share: a state directory, a small guest, a log of its events.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "engine/guest/hypervisor.h"
#include "engine/guest/qemu/qemu_hypervisor.h"

namespace godwit {

inline constexpr Duration kTestLimit = std::chrono::seconds(60);

// A directory under /tmp that is gone, with everything mounted in it, at the end.
class StateDir {
  public:
    StateDir();
    ~StateDir();
    [[nodiscard]] const std::string& path() const { return path_; }
    // Files and mounts within; the mount points of RAM count.
    [[nodiscard]] std::vector<std::string> leftovers() const;

  private:
    std::string path_ = "/tmp/gw-XXXXXX";
};

// A q35 of 64 MiB in which SeaBIOS looks for something to boot.
v1::VmSpec bios_guest(const std::string& name, v1::Accel accel = v1::ACCEL_TCG);

// Makes an image with qemu-img; false when that fails.
bool make_image(const std::string& path, const std::string& format);

// An HMP command through the guard's socket: what QEMU printed.
std::string monitor_command(const Vm& vm, const std::string& line);
// Grows disk0 a little: QEMU refuses that while the disk is given up or held elsewhere.
absl::Status grow_disk(const Vm& vm);

// Skips the test, aloud, where it cannot run.
#define GODWIT_NEED_ROOT_AND(accel)                                             \
    do {                                                                        \
        if (::geteuid() != 0) GTEST_SKIP() << "needs root: it mounts a tmpfs";  \
        if ((accel) == v1::ACCEL_KVM && !probe_kvm())                           \
            GTEST_SKIP() << "needs /dev/kvm, which does not work on this host"; \
    } while (false)

// Listens to one VM for as long as it lives.
class EventLog {
  public:
    explicit EventLog(Vm& vm);
    ~EventLog();
    // Waits for such an event, seen since the log began or the last clear().
    bool wait_for(GuestEventKind kind, const std::string& detail = "");
    [[nodiscard]] std::vector<GuestEvent> events();
    void clear();

  private:
    Vm& vm_;
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::vector<GuestEvent> events_;
};

}  // namespace godwit
