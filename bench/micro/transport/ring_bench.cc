// A question and its answer over loopback: a Ring at one end, beside blocking send(2) and recv(2).
// At the other end of both a thread answers with plain calls.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <thread>
#include <utility>
#include <vector>

#include "bench/micro/transport/against.h"
#include "engine/base/unique_fd.h"
#include "transport/ring/ring.h"

namespace godwit::bench {
namespace {

bool send_all(int socket, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes = bytes.subspan(static_cast<size_t>(sent));
    }
    return true;
}

bool receive_all(int socket, std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
        if (got <= 0) return false;
        bytes = bytes.subspan(static_cast<size_t>(got));
    }
    return true;
}

// Two ends of a TCP connection over loopback that hold nothing back; no ends when that fails.
std::pair<UniqueFd, UniqueFd> connect_pair() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), generic, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), generic, &size) != 0)
        return {};
    UniqueFd one(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(one.get(), generic, size) != 0) return {};
    UniqueFd other(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    for (const int end : {one.get(), other.get()}) {
        const int on = 1;
        ::setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return {std::move(one), std::move(other)};
}

// Answers each question of `question` bytes with as many as `answer`, until its peer closes.
class Answerer {
  public:
    Answerer(size_t question, size_t answer) {
        auto [near, far] = connect_pair();
        near_ = std::move(near);
        thread_ = std::jthread([far = std::move(far), question, answer] {
            std::vector<std::byte> bytes(std::max(question, answer));
            while (receive_all(far.get(), std::span(bytes).first(question)) &&
                   send_all(far.get(), std::span(bytes).first(answer))) {
            }
        });
    }
    ~Answerer() { ::shutdown(near_.get(), SHUT_RDWR); }
    Answerer(const Answerer&) = delete;
    Answerer& operator=(const Answerer&) = delete;

    [[nodiscard]] int socket() const { return near_.get(); }

  private:
    UniqueFd near_;
    std::jthread thread_;
};

// As a fault asks for its page (64 bytes, then 4 KiB), and as a frame is confirmed (2 MiB, then 64
// bytes).
void ring_round_trip(benchmark::State& state, RingKind kind) {
    const auto question = static_cast<size_t>(state.range(0));
    const auto answer = static_cast<size_t>(state.range(1));
    auto ring = Ring::create(kind);
    if (!ring.ok()) return state.SkipWithError(std::string(ring.status().message()).c_str());
    const Answerer ours(question, answer);
    const Answerer plain(question, answer);
    if (ours.socket() < 0 || plain.socket() < 0)
        return state.SkipWithError("no connection over loopback");
    std::vector<std::byte> bytes(std::max(question, answer), std::byte{7});
    const auto asked = std::span(bytes).first(question);
    const auto answered = std::span(bytes).first(answer);
    run(state,
        {.work =
             [&](size_t) {
                 absl::Status status = (*ring)->start_send(ours.socket(), asked);
                 if (status.ok()) status = (*ring)->finish();
                 if (status.ok()) status = (*ring)->start_receive(ours.socket(), answered);
                 if (status.ok()) status = (*ring)->finish();
                 if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
             },
         .limit =
             [&](size_t) {
                 if (!send_all(plain.socket(), asked) || !receive_all(plain.socket(), answered))
                     state.SkipWithError("the plain connection broke");
             },
         .bytes = question + answer});
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"question", "answer"})
        ->Args({64, kPageBytes})
        ->Args({kChunkBytes, 64})
        ->UseManualTime();
}

BENCHMARK_CAPTURE(ring_round_trip, io_uring, RingKind::kIoUring)->Apply(sizes);
BENCHMARK_CAPTURE(ring_round_trip, sockets, RingKind::kSockets)->Apply(sizes);

}  // namespace
}  // namespace godwit::bench
