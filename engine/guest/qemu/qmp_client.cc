#include "engine/guest/qemu/qmp_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "engine/guest/qemu/qmp_lines.h"

namespace godwit {
namespace {

absl::Status wait_writable(int fd, MonotonicTime deadline) {
    while (true) {
        const auto left = std::max<Duration>(deadline - Clock::system().now(), Duration::zero());
        timespec timeout{};
        timeout.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
        timeout.tv_nsec = (left % std::chrono::seconds(1)).count();
        pollfd waited{fd, POLLOUT, 0};
        const int ready = ::ppoll(&waited, 1, &timeout, nullptr);
        if (ready > 0) return absl::OkStatus();
        if (ready == 0) return absl::DeadlineExceededError("QEMU does not read its QMP socket");
        if (errno != EINTR) return errno_status(errno, "ppoll");
    }
}

// Sends what fits; `fd_to_pass` travels with the first byte.
ssize_t send_some(int socket, std::string_view bytes, int fd_to_pass) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd_to_pass >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &fd_to_pass, sizeof fd_to_pass);
    }
    return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// What ends a command; without it QEMU goes on reading.
constexpr std::string_view kCommandEnd = "}\n";
// A byte that is no JSON makes QEMU drop what it has of a command, and say so to nobody (a reply
// without an id); the end of the line makes it read on. docs/interop/qmp-spec.txt.
constexpr std::string_view kTakeBack = "\xff\n";

std::string to_text(uint64_t id, const std::string& command, const Json& arguments) {
    Json message{{"execute", command}, {"id", id}};
    if (!arguments.empty()) message["arguments"] = arguments;
    return message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::chrono::microseconds wall_now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::connect(const std::string& path,
                                                              MonotonicTime deadline,
                                                              OnEvent on_event) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return absl::InvalidArgumentError(fmt::format("{} is too long for a unix socket", path));
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return errno_status(errno, "socket");
    // A unix socket connects at once or never: EAGAIN means that its backlog is full.
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return errno_status(errno, fmt::format("Cannot connect to QMP at {}", path));
    return handshake(std::move(socket), deadline, std::move(on_event));
}

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::handshake(UniqueFd socket,
                                                                MonotonicTime deadline,
                                                                OnEvent on_event) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    std::unique_ptr<QmpClient> client(
        new QmpClient(std::move(socket), std::move(wakeup), std::move(on_event)));
    GODWIT_RETURN_IF_ERROR(client->negotiate(deadline));
    return client;
}

QmpClient::QmpClient(UniqueFd socket, Wakeup wakeup, OnEvent on_event)
    : socket_(std::move(socket)), wakeup_(std::move(wakeup)), on_event_(std::move(on_event)) {
    reader_ = std::jthread([this] {
        set_thread_name("qmp-reader");
        read_all();
    });
}

QmpClient::~QmpClient() { stop(); }

absl::Status QmpClient::negotiate(MonotonicTime deadline) {
    {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_until(lock, deadline, [&] { return greeted_ || !closed_.ok(); }))
            return absl::DeadlineExceededError("QEMU sent no QMP greeting in time");
        if (!closed_.ok()) return closed_;
    }
    return execute("qmp_capabilities", Json::object(), deadline - Clock::system().now()).status();
}

absl::StatusOr<uint64_t> QmpClient::begin_call(std::string_view command, uint64_t id) {
    const std::lock_guard lock(mutex_);
    if (!closed_.ok()) return annotate(closed_, command);
    if (pending_.size() >= kMaxPending)
        return absl::ResourceExhaustedError(
            fmt::format("{}: {} QMP commands wait already", command, kMaxPending));
    if (id == 0) id = next_id_++;
    pending_.emplace(id, Pending{});
    return id;
}

void QmpClient::foresee(std::string_view command, const Json& arguments) {
    const std::unique_lock sending(send_mutex_, std::try_to_lock);
    if (!sending.owns_lock() || foreseen_) return;
    Call call{.command = std::string(command),
              .arguments = arguments.is_null() ? Json::object() : arguments};
    {
        const std::lock_guard lock(mutex_);
        if (!closed_.ok()) return;
        call.id = next_id_++;
    }
    const std::string text = to_text(call.id, call.command, call.arguments);
    // Where the socket is full there is nothing to be gained.
    const ssize_t put = send_some(
        socket_.get(), std::string_view(text).substr(0, text.size() - kCommandEnd.size()), -1);
    if (put <= 0) return;
    foreseen_ = std::move(call);
    // Half of a half is taken back like the whole.
    if (static_cast<size_t>(put) + kCommandEnd.size() != text.size()) foreseen_->command.clear();
}

absl::StatusOr<Json> QmpClient::execute(std::string_view command, Json arguments, Duration limit,
                                        int fd_to_pass) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    Call call{.command = std::string(command),
              .arguments = arguments.is_null() ? Json::object() : std::move(arguments)};
    absl::Status sent;
    {
        const std::lock_guard sending(send_mutex_);
        const bool same = foreseen_ && fd_to_pass < 0 && foreseen_->command == call.command &&
                          foreseen_->arguments == call.arguments;
        GODWIT_ASSIGN_OR_RETURN(call.id, begin_call(command, same ? foreseen_->id : 0));
        const bool half_is_out = foreseen_.has_value();
        foreseen_.reset();
        if (half_is_out) sent = send(same ? kCommandEnd : kTakeBack, deadline, -1);
        // What comes next would be read as the rest of it.
        if (!sent.ok()) close_with(sent);
        if (sent.ok() && !same)
            sent = send(to_text(call.id, call.command, call.arguments), deadline, fd_to_pass);
    }
    const uint64_t id = call.id;
    std::unique_lock lock(mutex_);
    const auto entry = pending_.find(id);
    if (sent.ok())
        changed_.wait_until(lock, deadline,
                            [&] { return entry->second.reply.has_value() || !closed_.ok(); });
    const std::optional<QmpReply> reply = std::move(entry->second.reply);
    pending_.erase(entry);
    if (reply.has_value()) {
        if (!reply->error_class.empty()) return qmp_error(command, *reply);
        return reply->value;
    }
    if (!closed_.ok()) return annotate(closed_, command);
    if (!sent.ok()) return annotate(sent, command);
    return absl::DeadlineExceededError(fmt::format("{}: no answer from QEMU within {:.1f} s",
                                                   command,
                                                   std::chrono::duration<double>(limit).count()));
}

absl::Status QmpClient::send(std::string_view bytes, MonotonicTime deadline, int fd_to_pass) {
    size_t sent = 0;
    while (sent < bytes.size()) {
        const ssize_t put =
            send_some(socket_.get(), bytes.substr(sent), sent == 0 ? fd_to_pass : -1);
        if (put >= 0) {
            sent += static_cast<size_t>(put);
            continue;
        }
        if (errno == EINTR) continue;
        absl::Status status = errno == EAGAIN
                                  ? wait_writable(socket_.get(), deadline)
                                  : absl::UnavailableError(fmt::format(
                                        "the QMP connection is lost: {}", strerrorname_np(errno)));
        if (status.ok()) continue;
        // Half a command on the wire would garble the next one.
        if (sent > 0 || absl::IsUnavailable(status)) close_with(status);
        return status;
    }
    return absl::OkStatus();
}

void QmpClient::read_all() {
    QmpLines lines;
    const auto take_line = [this](std::string_view line) -> absl::Status {
        GODWIT_ASSIGN_OR_RETURN(QmpMessage message, parse_qmp_line(line));
        take(std::move(message));
        return absl::OkStatus();
    };
    std::vector<char> chunk(size_t{64} << 10);
    absl::Status status;
    while (status.ok()) {
        status = wait_readable(socket_.get(), wakeup_.fd(), std::nullopt);
        if (!status.ok()) break;
        const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0)
            status = absl::UnavailableError(
                fmt::format("the QMP connection is lost: {}", strerrorname_np(errno)));
        else if (got == 0)
            status = absl::UnavailableError("QEMU closed the QMP connection");
        else
            status = lines.append({chunk.data(), static_cast<size_t>(got)}, take_line);
    }
    close_with(status);
    const std::lock_guard lock(mutex_);
    reader_done_ = true;
    changed_.notify_all();
}

void QmpClient::take(QmpMessage message) {
    if (const auto* event = std::get_if<QmpEvent>(&message)) {
        const MonotonicTime now = Clock::system().now();
        if (on_event_) on_event_(*event, stamp_to_monotonic(event->stamp, wall_now(), now));
        return;
    }
    const std::lock_guard lock(mutex_);
    if (auto* reply = std::get_if<QmpReply>(&message)) {
        const auto waiter = pending_.find(reply->id);
        if (waiter == pending_.end()) return;  // came after its deadline
        waiter->second.reply = std::move(*reply);
    } else {
        greeted_ = true;
    }
    changed_.notify_all();
}

void QmpClient::close_with(const absl::Status& reason) {
    const std::lock_guard lock(mutex_);
    if (!closed_.ok()) return;
    closed_ = reason;
    ::shutdown(socket_.get(), SHUT_RDWR);
    changed_.notify_all();
}

absl::Status QmpClient::state() const {
    const std::lock_guard lock(mutex_);
    return closed_;
}

bool QmpClient::wait_closed(Duration limit) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Clock::system().now() + limit, [&] { return reader_done_; });
}

bool QmpClient::wait_told_all(Duration limit) const {
    // Unavailable is the other side's end of the connection, and what came before it was read. We
    // end it for other reasons.
    return wait_closed(limit) && absl::IsUnavailable(state());
}

void QmpClient::stop() {
    wakeup_.notify();
    if (reader_.joinable()) reader_.join();
}

}  // namespace godwit
