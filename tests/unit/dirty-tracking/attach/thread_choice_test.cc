#include "dirty-tracking/attach/thread_choice.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

// A named thread that reads an eventfd, or waits for it with epoll.
class Blocked {
  public:
    Blocked(const char* name, bool with_epoll)
        : event_(::eventfd(0, EFD_CLOEXEC)), thread_([this, name, with_epoll] {
              ::pthread_setname_np(::pthread_self(), name);
              epoll_event ready{};
              const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
              ready.events = EPOLLIN;
              ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event_.get(), &ready);
              id_ = static_cast<pid_t>(::syscall(SYS_gettid));
              uint64_t count = 0;
              if (with_epoll) {
                  while (::epoll_wait(epoll.get(), &ready, 1, -1) < 0) {
                  }
              } else {
                  (void)!::read(event_.get(), &count, sizeof count);
              }
          }) {
        while (id_.load() == 0) std::this_thread::yield();
    }
    ~Blocked() {
        const uint64_t one = 1;
        (void)!::write(event_.get(), &one, sizeof one);
        thread_.join();
    }
    pid_t id() const { return id_; }

  private:
    UniqueFd event_;
    std::atomic<pid_t> id_{0};
    std::thread thread_;
};

// The rank of a thread once it has settled in what it blocks in.
int settled_rank(pid_t thread) {
    for (int i = 0; i < 100000; ++i) {
        const auto choices = choose_threads(::getpid(), {});
        if (!choices.ok()) break;
        for (const ThreadChoice& choice : *choices)
            if (choice.thread == thread && choice.rank != 4) return choice.rank;
    }
    return -1;
}

TEST(ThreadChoice, PrefersRestartableCallsAndCallRcuAboveAll) {
    const Blocked rcu("call_rcu", false);
    const Blocked reader("worker", false);
    const Blocked poller("IO mon_iothread", true);
    const Blocked vcpu("CPU 0/KVM", false);
    EXPECT_EQ(settled_rank(rcu.id()), 0);
    EXPECT_EQ(settled_rank(reader.id()), 1);
    EXPECT_GT(settled_rank(poller.id()), settled_rank(reader.id()));
    EXPECT_GT(settled_rank(vcpu.id()), settled_rank(poller.id()));
    const auto choices = choose_threads(::getpid(), {});
    ASSERT_TRUE(choices.ok());
    EXPECT_EQ(choices->front().thread, rcu.id());
}

TEST(ThreadChoice, LeavesOutWhatIsExcluded) {
    const pid_t self = ::getpid();
    EXPECT_TRUE(absl::IsFailedPrecondition(choose_threads(self, {&self, 1}).status()));
}

TEST(ThreadChoice, OfAProcessThatIsGoneIsNotFound) {
    EXPECT_TRUE(absl::IsNotFound(choose_threads(0x3fffffff, {}).status()));
}

}  // namespace
}  // namespace godwit
