#include "dirty-tracking/resident/server.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>

#include "dirty-tracking/resident/answers.h"
#include "dirty-tracking/resident/state.h"
#include "dirty-tracking/resident/vcpus.h"

namespace godwit::resident {
namespace {

// Nothing here recurses; messages lie outside it. The thread-local memory of QEMU and of its
// libraries is taken from it.
constexpr size_t kStackBytes = 256 << 10;

int g_listener = -1;
int g_clients[kConnectionLimit] = {-1, -1, -1};
std::atomic<bool> g_running{false};
Message g_request;
Message g_reply;

bool send_reply(int client) {
    const ssize_t sent =
        ::send(client, &g_reply, g_reply.header.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == static_cast<ssize_t>(g_reply.header.length);
}

void drop_client(int client) {
    let_go(client);
    ::close(g_clients[client]);
    g_clients[client] = -1;
}

bool is_alone() {
    return std::all_of(std::begin(g_clients), std::end(g_clients), [](int fd) { return fd < 0; });
}

void accept_client() {
    const int fd = ::accept4(g_listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int* free = std::find(std::begin(g_clients), std::end(g_clients), -1);
    if (free == std::end(g_clients)) {
        greet(g_reply, Code::kBusy, "another agent is connected");
        send_reply(fd);
        ::close(fd);
        return;
    }
    if (is_alone()) {
        // What went wrong for the last agent need not go wrong for this one.
        const Guard guard(g_state.lock);
        if (!g_state.problem_for_good) g_state.problem[0] = 0;
    }
    const auto client = static_cast<int>(free - g_clients);
    g_clients[client] = fd;
    greet(g_reply, Code::kOk, "");
    if (!send_reply(fd)) drop_client(client);
}

// The first descriptor that came with a message; others are closed.
int take_descriptor(msghdr& header) {
    int first = -1;
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            if (first < 0) {
                first = fd;
            } else {
                ::close(fd);
            }
        }
    }
    return first;
}

void serve_client(int client) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec data{&g_request, sizeof g_request};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(g_clients[client], &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return drop_client(client);
    const int memory = take_descriptor(header);
    // What did not fit has a length that no message has.
    const size_t length =
        (header.msg_flags & MSG_TRUNC) != 0 ? sizeof g_request + 1 : static_cast<size_t>(got);
    const bool keep = answer(g_request, length, memory, client, g_reply);
    if (memory >= 0) ::close(memory);
    if (!send_reply(g_clients[client]) || !keep) drop_client(client);
}

void* serve(void*) {
    for (;;) {
        // What has no descriptor is ignored by poll.
        pollfd events[1 + kConnectionLimit] = {{g_listener, POLLIN, 0}};
        for (int i = 0; i < kConnectionLimit; ++i) events[1 + i] = {g_clients[i], POLLIN, 0};
        const int ready = ::poll(events, 1 + kConnectionLimit, kick_vcpus());
        if (ready <= 0) continue;
        // First the clients: one that has gone makes room for the next.
        for (int i = 0; i < kConnectionLimit; ++i)
            if (events[1 + i].revents != 0) serve_client(i);
        if ((events[0].revents & POLLIN) != 0) accept_client();
        if ((events[0].revents & (POLLERR | POLLNVAL)) != 0) break;
    }
    // Somebody has closed our socket.
    for (int i = 0; i < kConnectionLimit; ++i)
        if (g_clients[i] >= 0) drop_client(i);
    g_listener = -1;
    return nullptr;
}

bool start_thread() {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread{};
    const bool fine = pthread_create(&thread, &attributes, serve, nullptr) == 0;
    if (fine) pthread_setname_np(thread, "godwit-resident");
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    g_running.store(fine);
    return fine;
}

}  // namespace

bool start_server(int listener) {
    g_listener = listener;
    return start_thread();
}

bool restart_server() { return !g_running.load() && g_listener >= 0 && start_thread(); }

void server_lost() {
    for (int& fd : g_clients) {
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
    g_running.store(false);
}

}  // namespace godwit::resident
