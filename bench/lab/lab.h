// Lab: what a benchmark needs of this machine for as long as it runs.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/lab/agent_pair.h"
#include "bench/lab/engine.h"
#include "bench/lab/interrupt.h"
#include "bench/lab/json_lines.h"
#include "bench/lab/lab_options.h"
#include "bench/lab/libvirt_pair.h"
#include "bench/lab/scratch.h"
#include "bench/lab/series.h"

namespace godwit {

// An interrupted benchmark ends with this exit code.
inline constexpr int kInterrupted = 130;

class Lab {
  public:
    // Call it before any thread is there (Interrupt). Errors: no QEMU, no guest.elf, no scratch
    // directory, a JSON file that cannot be written.
    static absl::StatusOr<std::unique_ptr<Lab>> open(LabOptions options);

    ~Lab();
    Lab(const Lab&) = delete;
    Lab& operator=(const Lab&) = delete;

    [[nodiscard]] const LabOptions& options() const { return options_; }
    // Whether tables go to stdout.
    [[nodiscard]] bool prints() const { return options_.json_path != "-"; }
    // Whether guests run under KVM, if nothing else is better for them.
    [[nodiscard]] bool has_kvm() const { return machine_.kvm; }
    JsonLines& lines() { return lines_; }
    RamMounts& mounts() { return *mounts_; }
    // `guest` with CPU, kernel, firmware and seed of this machine and run. `kvm` only where
    // has_kvm().
    [[nodiscard]] GuestConfig equip(GuestConfig guest, bool kvm) const;
    // The same of a guest with a service, with a fresh disk. Errors: Unimplemented when
    // bench/guest/linux/make.sh has not made it; those of making a disk.
    [[nodiscard]] absl::StatusOr<GuestConfig> equip_service(GuestConfig guest, bool kvm) const;
    // Agents of a directory of their own (`name`, where there are several pairs), on these hosts,
    // of the programs in `bin_dir` (empty: beside this one).
    [[nodiscard]] std::unique_ptr<AgentPair> agents(const std::array<LabHost, 2>& hosts,
                                                    const std::string& bin_dir = "",
                                                    const std::string& name = "") const;
    // Two libvirts on these hosts, not started yet.
    [[nodiscard]] std::unique_ptr<LibvirtPair> libvirts(const std::array<LabHost, 2>& hosts,
                                                        const std::string& qemu) const;
    [[nodiscard]] const std::string& bin_dir() const { return bin_dir_; }
    [[nodiscard]] LabSetup setup(GuestConfig guest, const std::array<LabHost, 2>& hosts,
                                 AgentPair& agents);
    [[nodiscard]] Series::Options series() const;
    // The JSON line of the setting, without what is about one guest.
    [[nodiscard]] nlohmann::json setting() const;

  private:
    Lab(LabOptions options, GuestConfig machine, std::string bin_dir, Interrupt interrupt,
        JsonLines lines, Scratch scratch);

    const LabOptions options_;
    const GuestConfig machine_;
    const std::string bin_dir_;
    const Interrupt interrupt_;
    JsonLines lines_;
    const Scratch scratch_;
    std::unique_ptr<RamMounts> mounts_;
};

}  // namespace godwit
