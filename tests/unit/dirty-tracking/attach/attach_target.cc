// A process to be attached to: one thread does what the argument says and looks whether anything
// came out other than it should; the main thread answers questions on stdin.
//   attach_target futex | ppoll | nanosleep | long-sleep | pipe | compute | signals | vfork |
//                 kvm
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>

#include "tests/unit/dirty-tracking/attach/target_modes.h"

namespace {

std::atomic<uint64_t> g_progress{0};
std::atomic<const char*> g_wrong{nullptr};
std::atomic<pid_t> g_worker{0};
std::atomic<uint32_t> g_futex{0};
std::atomic<uint64_t> g_signals_handled{0};
uint64_t g_signals_sent = 0;
int g_event = -1;
std::array<int, 2> g_pipe{};
pthread_t g_worker_thread;
godwit::CountingVm g_vm;

alignas(16) std::array<char, 65536> g_alternate_stack;

const char* wait_on_futex() {
    const uint32_t seen = g_futex.load();
    if (seen > g_progress.load()) return nullptr;
    const long result =
        ::syscall(SYS_futex, &g_futex, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
    if (result != 0 && errno != EAGAIN) return "futex failed";
    return g_futex.load() == seen ? "futex woke up for nothing" : nullptr;
}

const char* wait_in_ppoll() {
    sigset_t mask;
    sigfillset(&mask);
    pollfd event{g_event, POLLIN, 0};
    if (::ppoll(&event, 1, nullptr, &mask) != 1) return "ppoll failed";
    uint64_t count = 0;
    return ::read(g_event, &count, sizeof count) == sizeof count ? nullptr : "no event";
}

const char* sleep_for(long milliseconds) {
    timespec begin{};
    timespec end{};
    const timespec duration{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
    ::clock_gettime(CLOCK_MONOTONIC, &begin);
    const int error = ::clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, nullptr);
    ::clock_gettime(CLOCK_MONOTONIC, &end);
    if (error != 0) return error == EINTR ? "nanosleep returned EINTR" : "nanosleep failed";
    const long long slept =
        (end.tv_sec - begin.tv_sec) * 1'000'000'000LL + (end.tv_nsec - begin.tv_nsec);
    return slept < milliseconds * 1'000'000LL ? "nanosleep returned too early" : nullptr;
}

const char* read_pipe() {
    char byte = 0;
    return ::read(g_pipe[0], &byte, 1) == 1 ? nullptr : "read of a pipe failed";
}

const char* spin_briefly() { return godwit::spin_with_full_registers(200'000); }

// Once: the child holds its parent until it is poked. Then the pipe.
const char* wait_for_vfork_child() {
    static bool done = false;
    if (done) return read_pipe();
    done = true;
    const pid_t child = ::vfork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        char byte = 0;
        (void)!::read(g_pipe[0], &byte, 1);
        ::_exit(0);
    }
    return ::waitpid(child, nullptr, 0) == child ? nullptr : "vfork failed";
}

// Whether what only the kernel remembers of the thread is as it was set.
const char* wrong_thread_state() {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    if (sigismember(&mask, SIGUSR2) != 1 || sigismember(&mask, SIGHUP) != 0)
        return "the signal mask changed";
    stack_t stack{};
    sigaltstack(nullptr, &stack);
    if (stack.ss_sp != g_alternate_stack.data() || stack.ss_size != g_alternate_stack.size())
        return "the alternate signal stack changed";
    return nullptr;
}

void work(const std::string& mode) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    stack_t stack{};
    stack.ss_sp = g_alternate_stack.data();
    stack.ss_size = g_alternate_stack.size();
    sigaltstack(&stack, nullptr);
    g_worker_thread = pthread_self();
    g_worker = static_cast<pid_t>(::syscall(SYS_gettid));
    while (g_wrong.load() == nullptr) {
        const char* wrong = nullptr;
        if (mode == "futex") wrong = wait_on_futex();
        if (mode == "ppoll") wrong = wait_in_ppoll();
        if (mode == "nanosleep") wrong = sleep_for(5);
        if (mode == "long-sleep") wrong = sleep_for(300);
        if (mode == "pipe") wrong = read_pipe();
        if (mode == "vfork") wrong = wait_for_vfork_child();
        if (mode == "compute" || mode == "signals") wrong = spin_briefly();
        if (mode == "kvm") wrong = g_vm.run();
        if (wrong == nullptr) wrong = wrong_thread_state();
        if (wrong != nullptr) g_wrong = wrong;
        ++g_progress;
    }
}

void poke() {
    g_futex.fetch_add(1);
    ::syscall(SYS_futex, &g_futex, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    const uint64_t one = 1;
    (void)!::write(g_event, &one, sizeof one);
    (void)!::write(g_pipe[1], "x", 1);
}

// Pokes the thread and waits until it has gone on.
std::string check(const std::string& mode) {
    const uint64_t before = g_progress.load();
    const uint16_t count = mode == "kvm" ? g_vm.count() : 0;
    const std::time_t limit = std::time(nullptr) + 15;
    poke();
    const auto moved = [&] {
        return mode == "kvm" ? g_vm.count() != count : g_progress.load() != before;
    };
    while (!moved() && g_wrong.load() == nullptr) {
        if (std::time(nullptr) > limit) return "the thread stands still";
        std::this_thread::yield();
    }
    const char* wrong = g_wrong.load();
    return wrong != nullptr ? wrong : "fine";
}

std::string close_userfaultfds() {
    for (int fd = 3; fd < 256; ++fd) {
        std::error_code error;
        const auto target =
            std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
        if (!error && target == "anon_inode:[userfaultfd]") ::close(fd);
    }
    return "closed";
}

// Real-time signals are queued: each must arrive once.
std::string send_signals(int count) {
    for (int i = 0; i < count; ++i)
        while (pthread_sigqueue(g_worker_thread, SIGRTMIN, sigval{}) != 0)
            std::this_thread::yield();
    g_signals_sent += static_cast<uint64_t>(count);
    return "sent";
}

std::string count_signals() {
    const std::time_t limit = std::time(nullptr) + 15;
    while (g_signals_handled.load() < g_signals_sent && std::time(nullptr) <= limit)
        std::this_thread::yield();
    return g_signals_handled.load() == g_signals_sent ? "fine" : "signals were lost or doubled";
}

std::string answer(const std::string& line, const std::string& mode) {
    if (line == "worker") return std::to_string(g_worker.load());
    if (line == "check") return check(mode);
    if (line == "progress") return std::to_string(g_progress.load());
    if (line == "close") return close_userfaultfds();
    if (line == "signals") return send_signals(50);
    if (line == "count-signals") return count_signals();
    return "what?";
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string mode = argv[1];
    if (mode == "kvm" && !g_vm.create()) {
        std::cout << "no kvm" << std::endl;
        return 0;
    }
    struct sigaction action {};
    action.sa_handler = [](int) { ++g_signals_handled; };
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    sigaction(SIGRTMIN, &action, nullptr);
    g_event = ::eventfd(0, EFD_CLOEXEC);
    if (::pipe2(g_pipe.data(), O_CLOEXEC) != 0) return 2;
    std::thread worker(work, mode);
    while (g_worker.load() == 0) std::this_thread::yield();
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << answer(line, mode) << std::endl;
    std::_Exit(0);
}
