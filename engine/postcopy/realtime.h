// Threads that answer page faults run before all others where the host allows it.
#pragma once

namespace godwit {

// Puts the calling thread under SCHED_FIFO at the lowest real-time priority. False when that is not
// allowed (no CAP_SYS_NICE and no RLIMIT_RTPRIO): it goes on as it was. On two busy cores p99.9 of
// a fault was 4–7 times as long without it.
// Threads that it makes are ordinary ones.
bool run_realtime();
// Back to where it was: nobody waits for it any more.
void run_as_others();

}  // namespace godwit
