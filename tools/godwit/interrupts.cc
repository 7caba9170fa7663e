#include "tools/godwit/interrupts.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace godwit {
namespace {

sigset_t interrupts_set() {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGINT);
    ::sigaddset(&signals, SIGTERM);
    return signals;
}

}  // namespace

void Interrupts::block() {
    const sigset_t signals = interrupts_set();
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

Interrupts::Interrupts() {
    const sigset_t signals = interrupts_set();
    fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

void Interrupts::drain() const {
    signalfd_siginfo info{};
    while (::read(fd_.get(), &info, sizeof info) > 0) {
    }
}

}  // namespace godwit
