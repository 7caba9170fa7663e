#include "engine/guest/libvirt/libvirt_calls.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace godwit {
namespace {

// Stays loaded until the process ends: libvirt's threads do too.
absl::StatusOr<void*> open_library(const char* name) {
    void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return library;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps it by thread
    const char* reason = ::dlerror();
    return absl::FailedPreconditionError(fmt::format(
        "libvirt is not installed here ({}): install it (Debian: libvirt-daemon-system), or use "
        "VMs of the agent's own (--driver qemu)",
        reason == nullptr ? name : reason));
}

template <typename Function>
absl::Status find_function(void* library, const char* name, Function** function) {
    *function = reinterpret_cast<Function*>(::dlsym(library, name));
    if (*function != nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("This host's libvirt is too old, it has no {}: at least 8.2 is needed", name));
}

}  // namespace

absl::Status load_libvirt() {
    static const absl::Status loaded = []() -> absl::Status {
        GODWIT_ASSIGN_OR_RETURN(void* const core, open_library("libvirt.so.0"));
        GODWIT_ASSIGN_OR_RETURN(void* const qemu, open_library("libvirt-qemu.so.0"));
#define GODWIT_FIND(name) GODWIT_RETURN_IF_ERROR(find_function(core, #name, &name.function_));
        GODWIT_LIBVIRT_CALLS(GODWIT_FIND)
#undef GODWIT_FIND
#define GODWIT_FIND(name) GODWIT_RETURN_IF_ERROR(find_function(qemu, #name, &name.function_));
        GODWIT_LIBVIRT_QEMU_CALLS(GODWIT_FIND)
#undef GODWIT_FIND
        return absl::OkStatus();
    }();
    return loaded;
}

}  // namespace godwit
