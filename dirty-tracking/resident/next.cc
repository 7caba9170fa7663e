#include "dirty-tracking/resident/next.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace godwit::resident {
namespace {

using IoctlFunction = int (*)(int, unsigned long, ...);
using FallocateFunction = int (*)(int, int, off_t, off_t);
using MadviseFunction = int (*)(void*, size_t, int);
using SigactionFunction = int (*)(int, const struct sigaction*, struct sigaction*);

IoctlFunction g_ioctl = nullptr;
FallocateFunction g_fallocate = nullptr;
MadviseFunction g_madvise = nullptr;
SigactionFunction g_sigaction = nullptr;

template <typename Function>
void find(Function& function, const char* name) {
    if (function == nullptr) function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

void find_next_functions() {
    find(g_ioctl, "ioctl");
    find(g_fallocate, "fallocate");
    find(g_madvise, "madvise");
    find(g_sigaction, "sigaction");
}

int next_ioctl(int fd, unsigned long request, void* argument) {
    if (g_ioctl != nullptr) return g_ioctl(fd, request, argument);
    return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

int next_fallocate(int fd, int mode, off_t offset, off_t length) {
    if (g_fallocate != nullptr) return g_fallocate(fd, mode, offset, length);
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, length));
}

int next_madvise(void* address, size_t length, int advice) {
    if (g_madvise != nullptr) return g_madvise(address, length, advice);
    return static_cast<int>(::syscall(SYS_madvise, address, length, advice));
}

int next_sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
    // The system call's structure is another one: this cannot be made directly.
    find(g_sigaction, "sigaction");
    if (g_sigaction != nullptr) return g_sigaction(signal, action, old);
    errno = ENOSYS;
    return -1;
}

}  // namespace godwit::resident
