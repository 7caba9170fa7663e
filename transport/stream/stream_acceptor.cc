#include "transport/stream/stream_acceptor.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "engine/base/wait.h"

namespace godwit {
namespace {

// poll() shows a TCP socket as readable from this many bytes on (or at its end): so a greeting is
// read when all of it is there, and reading it never blocks.
absl::Status set_low_water(int socket, int bytes) {
    if (::setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0)
        return absl::OkStatus();
    return errno_status(errno, "setsockopt SO_RCVLOWAT");
}

}  // namespace

StreamAcceptor::StreamAcceptor(TcpListener& listener, const HelloExpectation& expected,
                               const TcpOptions& options, UniqueFd epoll)
    : listener_(&listener),
      expected_(expected),
      options_(options),
      epoll_(std::move(epoll)),
      taken_(expected.stream_count) {}

absl::StatusOr<StreamAcceptor> StreamAcceptor::create(TcpListener& listener,
                                                      const HelloExpectation& expected,
                                                      const TcpOptions& options) {
    if (expected.stream_count == 0 || expected.stream_count > kMaxStreams)
        return absl::InvalidArgumentError(
            fmt::format("{} streams, outside 1 to {}", expected.stream_count, kMaxStreams));
    UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll.valid()) return errno_status(errno, "epoll_create1");
    StreamAcceptor acceptor(listener, expected, options, std::move(epoll));
    GODWIT_RETURN_IF_ERROR(acceptor.watch(listener.fd()));
    return acceptor;
}

absl::Status StreamAcceptor::watch(int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
    return errno_status(errno, "epoll_ctl");
}

AcceptedStream StreamAcceptor::refuse(absl::Status reason) {
    ++refused_count_;
    last_refusal_ = std::move(reason);
    return {};
}

absl::Status StreamAcceptor::take_connections() {
    for (size_t count = 0; count < kMaxWaiting; ++count) {
        GODWIT_ASSIGN_OR_RETURN(UniqueFd socket, listener_->try_accept());
        if (!socket.valid()) return absl::OkStatus();
        GODWIT_RETURN_IF_ERROR(set_low_water(socket.get(), kHelloFrameBytes));
        GODWIT_RETURN_IF_ERROR(watch(socket.get()));
        if (waiting_.size() == kMaxWaiting) {
            waiting_.erase(waiting_.begin());
            refuse(absl::DeadlineExceededError("a connection that did not greet"));
        }
        waiting_.push_back(std::move(socket));
    }
    return absl::OkStatus();
}

absl::StatusOr<UniqueFd> StreamAcceptor::next_ready() {
    std::array<epoll_event, kMaxWaiting + 1> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), 0);
    if (count < 0 && errno != EINTR) return errno_status(errno, "epoll_wait");
    for (int i = 0; i < count; ++i) {
        const auto found =
            std::find_if(waiting_.begin(), waiting_.end(), [&](const UniqueFd& socket) {
                return socket.get() == events[static_cast<size_t>(i)].data.fd;
            });
        if (found == waiting_.end()) continue;  // the listener
        UniqueFd socket = std::move(*found);
        waiting_.erase(found);
        return socket;
    }
    return UniqueFd();
}

absl::StatusOr<AcceptedStream> StreamAcceptor::greet(UniqueFd socket) {
    std::array<std::byte, kHelloFrameBytes> bytes{};
    const ssize_t got = ::recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got != static_cast<ssize_t>(bytes.size()))
        return refuse(absl::UnavailableError("a connection that ended before it had greeted"));
    const absl::StatusOr<uint16_t> stream = check_hello(bytes, expected_);
    if (!stream.ok()) return refuse(stream.status());
    if (taken_[*stream])
        return refuse(absl::AlreadyExistsError(fmt::format("stream {} came twice", *stream)));
    // The socket stays in the epoll no longer than needed: events of a taken stream are not ours.
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket.get(), nullptr) != 0)
        return errno_status(errno, "epoll_ctl");
    GODWIT_RETURN_IF_ERROR(set_low_water(socket.get(), 1));
    GODWIT_RETURN_IF_ERROR(apply_tcp_options(socket.get(), options_));
    GODWIT_RETURN_IF_ERROR(fit_tcp_buffers(socket.get()).status());
    const FrameRoute route{expected_.migration_id, *stream, expected_.generation};
    const bool is_urgent = *stream + 1 == expected_.stream_count;
    GODWIT_ASSIGN_OR_RETURN(
        auto channel,
        TcpChannel::create(std::move(socket), is_urgent ? kUrgentRing : options_.ring));
    const absl::Status answered = acknowledge_hello(*channel, route);
    if (!answered.ok()) return refuse(answered);
    taken_[*stream] = true;
    return AcceptedStream{std::move(channel), route};
}

absl::Status StreamAcceptor::late() const {
    const auto came = std::count(taken_.begin(), taken_.end(), true);
    std::string text =
        fmt::format("Cannot accept a stream: {} of {} came in time", came, taken_.size());
    if (refused_count_ > 0)
        text += fmt::format("; {} dropped, the last because of: {}",
                            refused_count_ == 1
                                ? "1 other connection was"
                                : fmt::format("{} other connections were", refused_count_),
                            std::string(last_refusal_.message()));
    else if (came == 0 && waiting_.empty())
        text += fmt::format("; does a firewall keep the source from port {}?", listener_->port());
    return absl::DeadlineExceededError(text);
}

absl::StatusOr<AcceptedStream> StreamAcceptor::accept(MonotonicTime deadline, int cancel_fd) {
    if (std::find(taken_.begin(), taken_.end(), false) == taken_.end())
        return absl::FailedPreconditionError("all streams of the migration are there");
    while (true) {
        const absl::Status ready = wait_readable(epoll_.get(), cancel_fd, deadline);
        // A crowd at the port has it ready for ever.
        if (absl::IsDeadlineExceeded(ready) || (ready.ok() && Clock::system().now() >= deadline))
            return late();
        GODWIT_RETURN_IF_ERROR(annotate(ready, "Cannot accept a stream"));
        // Greetings that are there come before new connections, so that a flood drops none of them.
        GODWIT_ASSIGN_OR_RETURN(UniqueFd socket, next_ready());
        if (!socket.valid()) {
            GODWIT_RETURN_IF_ERROR(take_connections());
            continue;
        }
        GODWIT_ASSIGN_OR_RETURN(AcceptedStream stream, greet(std::move(socket)));
        if (stream.channel) return stream;
    }
}

}  // namespace godwit
