#include "engine/base/bus_error_guard.h"

#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include "engine/base/check.h"
#include "engine/base/units.h"

namespace godwit {
namespace {

struct Guarded {
    uintptr_t begin;
    uintptr_t end;
    volatile std::sig_atomic_t hit;
};
thread_local Guarded guarded{};

struct sigaction before {};

void on_bus_error(int /*signal*/, siginfo_t* info, void* /*context*/) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    if (address >= guarded.begin && address < guarded.end) {
        const int saved = errno;
        void* page = reinterpret_cast<void*>(address & ~uintptr_t{kPageBytes - 1});
        const void* placed =
            ::mmap(page, kPageBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = saved;
        if (placed == page) {
            guarded.hit = 1;
            return;  // the read is tried again
        }
    }
    ::sigaction(SIGBUS, &before, nullptr);  // it happens again, and ends as it would have
}

void install() {
    struct sigaction action {};
    action.sa_sigaction = &on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGBUS, &action, &before);
}

}  // namespace

BusErrorGuard::BusErrorGuard(std::span<const std::byte> range) {
    static std::once_flag installed;
    std::call_once(installed, install);
    GODWIT_CHECK(guarded.end == 0);
    const auto begin = reinterpret_cast<uintptr_t>(range.data());
    guarded = {.begin = begin, .end = begin + range.size(), .hit = 0};
}

BusErrorGuard::~BusErrorGuard() { guarded = {}; }

bool BusErrorGuard::hit() const { return guarded.hit != 0; }

}  // namespace godwit
