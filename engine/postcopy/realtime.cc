#include "engine/postcopy/realtime.h"

#include <pthread.h>
#include <sched.h>

namespace godwit {

bool run_realtime() {
    const sched_param parameters{.sched_priority = ::sched_get_priority_min(SCHED_FIFO)};
    return ::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &parameters) == 0;
}

}  // namespace godwit
