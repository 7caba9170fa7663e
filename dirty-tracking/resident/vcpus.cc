#include "dirty-tracking/resident/vcpus.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/state.h"

namespace godwit::resident {
namespace {

// QEMU makes its vCPU threads leave KVM_RUN with this signal; its handler sets immediate_exit.
constexpr int kKickSignal = SIGUSR1;
constexpr size_t kRunBytes = 4096;  // of kvm_run; immediate_exit is in its first bytes

// Percent in the lower half, the period in milliseconds in the upper; 0: off.
std::atomic<uint64_t> g_throttle{0};
std::atomic<uint64_t> g_holds{0};
std::atomic<uint64_t> g_kicks{0};
// Readable while there is no throttle.
int g_release = -1;

thread_local Vcpu* t_vcpu = nullptr;

uint64_t now_us() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000 +
           static_cast<uint64_t>(time.tv_nsec) / 1000;
}

// Microseconds to the end of the held part, and to the next period; the first is 0 outside it.
struct Phase {
    uint64_t held_us = 0;
    uint64_t period_us = 0;
};

Phase phase_at(uint64_t time_us, uint64_t throttle) {
    const uint64_t period_us = (throttle >> 32) * 1000;
    if (period_us == 0) return {};
    const uint64_t into = time_us % period_us;
    const uint64_t held = period_us * (throttle & 0xffffffff) / 100;
    return {into < held ? held - into : 0, period_us - into};
}

// Until the held part ends, the throttle goes, or QEMU wants the vCPU: its signal is let in by
// ppoll alone, after immediate_exit was looked at, so none is slept through.
void hold(const Vcpu& vcpu) {
    const KeepErrno keep;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool counted = false;
    for (;;) {
        const uint64_t left_us = phase_at(now_us(), g_throttle.load()).held_us;
        if (left_us == 0 || __atomic_load_n(&vcpu.run->immediate_exit, __ATOMIC_RELAXED) != 0)
            break;
        if (!counted) g_holds.fetch_add(1);
        counted = true;
        const timespec timeout{static_cast<time_t>(left_us / 1'000'000),
                               static_cast<long>(left_us % 1'000'000 * 1000)};
        pollfd release{g_release, POLLIN, 0};
        if (::ppoll(&release, 1, &timeout, &before) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Vcpu* find_vcpu(int fd) {
    const uint32_t count = g_state.vcpu_count.load(std::memory_order_acquire);
    for (uint32_t i = 0; i < count; ++i)
        if (g_state.vcpus[i].fd.load(std::memory_order_acquire) == fd) return &g_state.vcpus[i];
    return nullptr;
}

// A number may have belonged to a vCPU that is closed.
Vcpu* entry_for(int fd) {
    if (Vcpu* known = find_vcpu(fd); known != nullptr) return known;
    const uint32_t count = g_state.vcpu_count.load();
    if (count == kVcpuLimit) return nullptr;
    g_state.vcpu_count.store(count + 1, std::memory_order_release);
    return &g_state.vcpus[count];
}

void note_vcpu(int fd) {
    const KeepErrno keep;
    void* run = ::mmap(nullptr, kRunBytes, PROT_READ, MAP_SHARED, fd, 0);
    if (run == MAP_FAILED) return;
    next_madvise(run, kRunBytes, MADV_DONTFORK);
    Vcpu* vcpu = entry_for(fd);
    if (vcpu == nullptr) {
        ::munmap(run, kRunBytes);
        return;
    }
    vcpu->fd.store(-1);
    if (vcpu->run != nullptr) ::munmap(vcpu->run, kRunBytes);
    vcpu->run = static_cast<kvm_run*>(run);
    vcpu->inside.store(false);
    vcpu->fd.store(fd, std::memory_order_release);
}

bool kick_is_handled() {
    struct sigaction action {};
    if (next_sigaction(kKickSignal, nullptr, &action) != 0) return false;
    return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

void kick(const Vcpu& vcpu) {
    ::syscall(SYS_tgkill, ::getpid(), vcpu.thread.load(), kKickSignal);
    g_kicks.fetch_add(1);
}

}  // namespace

int create_vcpu(int vm, unsigned long request, void* argument) {
    const int fd = next_ioctl(vm, request, argument);
    if (fd < 0) return fd;
    const Guard guard(g_state.lock);
    if (vm == g_state.vm) note_vcpu(fd);
    return fd;
}

int run_vcpu(int fd, unsigned long request, void* argument) {
    Vcpu* vcpu = t_vcpu;
    if (vcpu == nullptr || vcpu->fd.load(std::memory_order_relaxed) != fd) {
        vcpu = t_vcpu = find_vcpu(fd);
        if (vcpu == nullptr) return next_ioctl(fd, request, argument);
        vcpu->thread.store(static_cast<int>(::syscall(SYS_gettid)));
    }
    if (g_throttle.load(std::memory_order_relaxed) != 0) hold(*vcpu);
    vcpu->inside.store(true, std::memory_order_release);
    const int result = next_ioctl(fd, request, argument);
    vcpu->inside.store(false, std::memory_order_release);
    return result;
}

void set_throttle(uint32_t held_percent, uint32_t period_ms) {
    uint64_t count = 0;
    if (held_percent != 0) {
        (void)!::read(g_release, &count, sizeof count);
        g_throttle.store(uint64_t{period_ms} << 32 | held_percent);
        return;
    }
    g_throttle.store(0);
    count = 1;
    (void)!::write(g_release, &count, sizeof count);
}

uint32_t throttle_percent() { return static_cast<uint32_t>(g_throttle.load() & 0xffffffff); }

// A kick that comes between the vCPU's look at the time and its KVM_RUN is lost: so one that is
// still inside a millisecond later gets another.
int kick_vcpus() {
    const uint64_t throttle = g_throttle.load();
    if (throttle == 0) return -1;
    const Phase phase = phase_at(now_us(), throttle);
    bool again = false;
    const uint32_t count = g_state.vcpu_count.load();
    for (uint32_t i = 0; i < count && phase.held_us != 0 && kick_is_handled(); ++i) {
        if (!g_state.vcpus[i].inside.load(std::memory_order_acquire)) continue;
        kick(g_state.vcpus[i]);
        again = true;
    }
    return again ? 1 : static_cast<int>(phase.period_us / 1000 + 1);
}

uint64_t hold_count() { return g_holds.load(); }
uint64_t kick_count() { return g_kicks.load(); }

bool prepare_throttle() {
    g_release = ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    return g_release >= 0;
}

void forget_vcpus() {
    const uint32_t count = g_state.vcpu_count.load();
    for (uint32_t i = 0; i < count; ++i) g_state.vcpus[i].fd.store(-1);
}

}  // namespace godwit::resident
