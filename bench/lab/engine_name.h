// Names of what is compared: "floor", "copy", "stay", "qemu-MODE[-shared][@PASSES]",
// "libvirt-MODE", "godwit-STRATEGY"; and what only scenarios name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

// In scenarios only: kFleet, several guests by one `godwit migrate --vms`; kMicro, a
// micro-benchmark, which has no guest.
enum class EngineKind { kFloor, kCopy, kStay, kQemu, kLibvirt, kGodwit, kFleet, kMicro };
enum class QemuMode {
    kPrecopy,
    kMultifd,
    kMultifdZlib,
    kMultifdZstd,
    kXbzrle,
    kAutoConverge,
    kPostcopy,
    kPreempt
};

inline bool is_multifd(QemuMode mode) {
    return mode == QemuMode::kMultifd || mode == QemuMode::kMultifdZlib ||
           mode == QemuMode::kMultifdZstd;
}
inline bool is_postcopy(QemuMode mode) {
    return mode == QemuMode::kPostcopy || mode == QemuMode::kPreempt;
}

struct EngineName {
    std::string text;  // as the user wrote it
    EngineKind kind = EngineKind::kFloor;
    QemuMode mode = QemuMode::kPrecopy;  // kQemu, and kLibvirt as far as libvirt has it
    bool shared = false;                 // kQemu only: RAM in a shared file on huge tmpfs
    int channels = 2;                    // multifd only
    int passes = 0;        // kQemu's post-copy only: full passes of pre-copy before it begins
    std::string strategy;  // kGodwit and kFleet: passed through to `godwit migrate --strategy`
    std::string schedule;  // kFleet only: to `--schedule`
};

// Errors: InvalidArgument, which names what there is.
absl::StatusOr<EngineName> parse_engine(std::string_view text);

// A comma-separated list of names and groups: "qemu" (private RAM, its best case; the modes that
// compress are named one by one), "qemu-shared", "godwit", "all" (without "copy"). Each engine
// once, in the order of its first mention. Errors: as above; also when the list is empty.
absl::StatusOr<std::vector<EngineName>> parse_engines(std::string_view list);

}  // namespace godwit
