#include "bench/lab/interrupt.h"

#include <signal.h>
#include <sys/signalfd.h>

#include <cerrno>

#include "engine/base/wait.h"

namespace godwit {

absl::StatusOr<Interrupt> Interrupt::create() {
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, number);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd.valid()) return errno_status(errno, "signalfd");
    return Interrupt(std::move(fd));
}

bool Interrupt::requested() const {
    return wait_readable(fd_.get(), -1, Clock::system().now()).ok();
}

}  // namespace godwit
