// The functions that the resident stands in front of, and KVM's ioctls made on its own behalf.
#pragma once

#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>

namespace godwit::resident {

// The C library's (or whatever is preloaded behind us). Each sets errno as the original does.
int next_ioctl(int fd, unsigned long request, void* argument);
int next_fallocate(int fd, int mode, off_t offset, off_t length);
int next_madvise(void* address, size_t length, int advice);
int next_sigaction(int signal, const struct sigaction* action, struct sigaction* old);

// Looks them up; before that, system calls are made directly.
void find_next_functions();

// errno as QEMU left it, whatever we do meanwhile.
class KeepErrno {
  public:
    KeepErrno() : value_(errno) {}
    ~KeepErrno() { errno = value_; }
    KeepErrno(const KeepErrno&) = delete;
    KeepErrno& operator=(const KeepErrno&) = delete;

  private:
    int value_;
};

}  // namespace godwit::resident
