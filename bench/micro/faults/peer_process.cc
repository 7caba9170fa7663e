#include "bench/micro/faults/peer_process.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "engine/base/wait.h"
#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

void no_delay(int fd) {
    const int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// A connection to a listening socket of ours, and its other end.
bool connect_pair(int listener, UniqueFd& here, UniqueFd& there) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    here.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(here.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return false;
    there.reset(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    no_delay(here.get());
    no_delay(there.get());
    return there.valid();
}

class SocketSink : public PageSink {
  public:
    explicit SocketSink(int fd) : fd_(fd) {}
    absl::Status send(const PageAnswer& answer) override {
        PeerHead head{.chunk = answer.chunk,
                      .block = answer.block,
                      .raw_bytes = static_cast<uint32_t>(answer.bytes.size()),
                      .origin = static_cast<uint64_t>(answer.origin),
                      .present = answer.present,
                      .zero = answer.zero};
        std::array<iovec, 2> parts{
            {{&head, sizeof head},
             {const_cast<std::byte*>(answer.bytes.data()), answer.bytes.size()}}};
        size_t left = sizeof head + answer.bytes.size();
        while (left > 0) {
            const ssize_t sent = ::writev(fd_, parts.data(), parts.size());
            if (sent < 0) return errno_status(errno, "writev");
            left -= static_cast<size_t>(sent);
            auto done = static_cast<size_t>(sent);
            for (iovec& part : parts) {
                const size_t taken = std::min(done, part.iov_len);
                part.iov_base = static_cast<std::byte*>(part.iov_base) + taken;
                part.iov_len -= taken;
                done -= taken;
            }
        }
        return absl::OkStatus();
    }

  private:
    int fd_;
};

void push_all(int fd, const RamBlock& source, PendingPages& pending, const PeerOptions& options) {
    char begin = 0;
    if (::read(fd, &begin, 1) != 1 || options.push_rate == 0) return;
    SocketSink sink(fd);
    std::vector<std::byte> bytes(kChunkBytes);
    MonotonicTime due = Clock::system().now();
    for (ChunkIndex chunk = 0; chunk < source.chunk_count(); ++chunk) {
        for (PageIndex from = 0; from < kPagesPerChunk; from += options.push_pages) {
            const ChunkMask pages = pending.take_following(0, chunk * kPagesPerChunk + from,
                                                           options.push_pages, options.push_pages);
            size_t size = 0;
            for (PageIndex page = 0; page < kPagesPerChunk; ++page) {
                if ((pages[page / 64] >> (page % 64) & 1) == 0) continue;
                if (!read_fully(source.file.get(), &bytes[size], kPageBytes,
                                chunk * kChunkBytes + page * kPageBytes)
                         .ok())
                    return;
                size += kPageBytes;
            }
            if (size == 0) continue;
            if (!sink.send({.chunk = chunk,
                            .present = pages,
                            .bytes = {bytes.data(), size},
                            .origin = PageOrigin::kPush})
                     .ok())
                return;
            due += std::chrono::nanoseconds(size * 1'000'000'000 / options.push_rate);
            std::this_thread::sleep_until(due);
        }
    }
}

[[noreturn]] void serve(const RamBlock& source, const PeerOptions& options, int urgent, int push) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    PendingPages pending({&source, 1});
    ChunkMask all;
    all.fill(~uint64_t{0});
    for (ChunkIndex chunk = 0; chunk < source.chunk_count(); ++chunk) pending.add(0, chunk, all);
    std::jthread pusher([&] { push_all(push, source, pending, options); });
    if (options.realtime) run_realtime();
    SocketSink sink(urgent);
    auto server = PageServer::create({&source, 1}, pending, sink, options.prepaging);
    if (!server.ok()) ::_exit(1);
    PeerRequest request;
    while (::recv(urgent, &request, sizeof request, MSG_WAITALL) == sizeof request)
        if (!(*server)->answer(static_cast<BlockIndex>(request.block), request.page).ok()) break;
    ::_exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerProcess>> PeerProcess::start(const RamBlock& source,
                                                                const PeerOptions& options) {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 2) != 0)
        return errno_status(errno, "listen");
    UniqueFd urgent;
    UniqueFd push;
    UniqueFd far_urgent;
    UniqueFd far_push;
    if (!connect_pair(listener.get(), urgent, far_urgent) ||
        !connect_pair(listener.get(), push, far_push))
        return errno_status(errno, "connect");
    const pid_t pid = ::fork();
    if (pid < 0) return errno_status(errno, "fork");
    if (pid == 0) {
        urgent.reset();
        push.reset();
        serve(source, options, far_urgent.get(), far_push.get());
    }
    return std::unique_ptr<PeerProcess>(new PeerProcess(pid, std::move(urgent), std::move(push)));
}

PeerProcess::~PeerProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

PeerReader::PeerReader(int fd) : fd_(fd), buffer_(2 * kChunkBytes) {}

bool PeerReader::want(size_t bytes) {
    if (begin_ + bytes > buffer_.size()) {
        std::memmove(buffer_.data(), &buffer_[begin_], end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    while (end_ - begin_ < bytes) {
        const ssize_t got = ::recv(fd_, &buffer_[end_], buffer_.size() - end_, 0);
        if (got <= 0) return false;
        end_ += static_cast<size_t>(got);
    }
    return true;
}

bool PeerReader::next(PeerHead& head, std::span<const std::byte>& raw) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (!want(sizeof head)) return false;
    std::memcpy(&head, &buffer_[begin_], sizeof head);
    begin_ += sizeof head;
    if (!want(head.raw_bytes)) return false;
    raw = {&buffer_[begin_], head.raw_bytes};
    begin_ += head.raw_bytes;
    return true;
}

}  // namespace godwit
