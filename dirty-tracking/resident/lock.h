// The one lock of the resident, which QEMU's threads may wait for: whoever holds it long lets go
// of it when they do.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>

namespace godwit::resident {

class Lock {
  public:
    void lock() {
        waiting_.fetch_add(1, std::memory_order_relaxed);
        pthread_mutex_lock(&mutex_);
        waiting_.fetch_sub(1, std::memory_order_relaxed);
    }
    void unlock() { pthread_mutex_unlock(&mutex_); }

    // Lets those that wait go first; a mutex alone would let its holder take it again and again.
    void yield() {
        unlock();
        for (int i = 0; i < 100 && waiting_.load(std::memory_order_relaxed) != 0; ++i)
            sched_yield();
        lock();
    }

    // In a child process, where its holder does not exist.
    void reset() {
        mutex_ = PTHREAD_MUTEX_INITIALIZER;
        waiting_.store(0);
    }

  private:
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    std::atomic<int> waiting_{0};
};

class Guard {
  public:
    explicit Guard(Lock& lock) : lock_(lock) { lock_.lock(); }
    ~Guard() { lock_.unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

  private:
    Lock& lock_;
};

}  // namespace godwit::resident
