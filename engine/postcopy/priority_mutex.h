// PriorityMutex: a mutex whose holder runs at the priority of who waits for it.
//
// The threads that serve faults run under SCHED_FIFO, those that bring bulk pages do not: without
// inheritance (PTHREAD_PRIO_INHERIT) a fault could wait for a thread that nobody lets run.
#pragma once

#include <pthread.h>

namespace godwit {

class PriorityMutex {
  public:
    PriorityMutex() {
        pthread_mutexattr_t attributes;
        ::pthread_mutexattr_init(&attributes);
        ::pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
        ::pthread_mutex_init(&mutex_, &attributes);
        ::pthread_mutexattr_destroy(&attributes);
    }
    ~PriorityMutex() { ::pthread_mutex_destroy(&mutex_); }
    PriorityMutex(const PriorityMutex&) = delete;
    PriorityMutex& operator=(const PriorityMutex&) = delete;

    void lock() { ::pthread_mutex_lock(&mutex_); }
    void unlock() { ::pthread_mutex_unlock(&mutex_); }

  private:
    pthread_mutex_t mutex_;
};

}  // namespace godwit
