#include "engine/guest/qemu/host_facts.h"

#include <fmt/format.h>

#include "engine/guest/qemu/kvm_probe.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr auto kProbeLimit = std::chrono::seconds(10);

}  // namespace

absl::StatusOr<QemuFacts> QemuProbe::facts() {
    const std::lock_guard lock(mutex_);
    if (facts_) return *facts_;
    QemuFacts found;
    GODWIT_ASSIGN_OR_RETURN(found.program, find_program(binary_));
    GODWIT_ASSIGN_OR_RETURN(std::string version,
                            run_and_capture({found.program, "--version"}, kProbeLimit));
    GODWIT_ASSIGN_OR_RETURN(std::string machines,
                            run_and_capture({found.program, "-machine", "help"}, kProbeLimit));
    found.version = parse_qemu_version(version);
    found.machines = parse_machine_help(machines);
    if (found.version.empty() || found.machines.empty())
        return absl::FailedPreconditionError(fmt::format("{} is no QEMU", found.program));
    found.kvm_cpu = default_kvm_cpu();
    facts_ = found;
    return found;
}

std::string parse_qemu_version(const std::string& text) {
    static constexpr std::string_view kBefore = "QEMU emulator version ";
    const size_t at = text.find(kBefore);
    if (at == std::string::npos) return "";
    const size_t begin = at + kBefore.size();
    return text.substr(begin, text.find_first_not_of("0123456789.", begin) - begin);
}

}  // namespace godwit
