// What this host and its QEMU can do, asked once.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"
#include "engine/guest/qemu/resolve_spec.h"

namespace godwit {

struct QemuFacts {
    std::string program;  // absolute path
    std::string version;  // "7.2.22"
    MachineTypes machines;
    std::string kvm_cpu;  // the CPU model under KVM when none is asked for
};

// Thread-safe. Runs the binary twice (--version, -machine help) at the first call, and keeps the
// answer if it is good. Errors: NotFound (no such program), FailedPrecondition (it fails),
// DeadlineExceeded.
class QemuProbe {
  public:
    explicit QemuProbe(std::string binary) : binary_(std::move(binary)) {}
    absl::StatusOr<QemuFacts> facts();

  private:
    const std::string binary_;
    std::mutex mutex_;
    std::optional<QemuFacts> facts_ GODWIT_GUARDED_BY(mutex_);
};

// "QEMU emulator version 7.2.22 (Debian …)" → "7.2.22"; "" when it says no such thing.
std::string parse_qemu_version(const std::string& text);

}  // namespace godwit
