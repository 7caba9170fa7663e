#include "bench/lab/plain_copy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <random>
#include <thread>
#include <vector>

#include "bench/lab/cpu_time.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr size_t kConnections = 2;
constexpr size_t kBlockBytes = size_t{256}
                               << 10;  // stays in the L2 cache from one call to the next
constexpr size_t kBlocksPerLook = 64;  // at the interrupt

struct Part {
    int file = -1;
    int socket = -1;
    Bytes begin = 0, end = 0;
    int cancel_fd = -1;
};

struct Outcome {
    absl::Status status;
    CpuSeconds cpu;  // of the thread
};

absl::Status look(size_t block, int cancel_fd) {
    if (block % kBlocksPerLook != 0) return absl::OkStatus();
    const absl::Status status = wait_readable(-1, cancel_fd, Clock::system().now());
    return absl::IsCancelled(status) ? status : absl::OkStatus();
}

absl::Status send_part(const Part& part) {
    std::vector<char> buffer(kBlockBytes);
    Bytes at = part.begin;
    for (size_t block = 0; at < part.end; ++block) {
        GODWIT_RETURN_IF_ERROR(look(block, part.cancel_fd));
        const size_t want = std::min<Bytes>(kBlockBytes, part.end - at);
        const ssize_t got = ::pread(part.file, buffer.data(), want, static_cast<off_t>(at));
        if (got <= 0) return errno_status(got < 0 ? errno : EIO, "pread");
        for (ssize_t sent = 0; sent < got;) {
            const ssize_t count = ::send(part.socket, buffer.data() + sent,
                                         static_cast<size_t>(got - sent), MSG_NOSIGNAL);
            if (count < 0) return errno_status(errno, "send");
            sent += count;
        }
        at += static_cast<Bytes>(got);
    }
    return absl::OkStatus();
}

absl::Status receive_part(const Part& part) {
    std::vector<char> buffer(kBlockBytes);
    Bytes at = part.begin;
    for (size_t block = 0; at < part.end; ++block) {
        GODWIT_RETURN_IF_ERROR(look(block, part.cancel_fd));
        const size_t want = std::min<Bytes>(kBlockBytes, part.end - at);
        const ssize_t got = ::recv(part.socket, buffer.data(), want, MSG_WAITALL);
        if (got <= 0) return errno_status(got < 0 ? errno : ECONNRESET, "recv");
        if (::pwrite(part.file, buffer.data(), static_cast<size_t>(got), static_cast<off_t>(at)) !=
            got)
            return errno_status(errno, "pwrite");
        at += static_cast<Bytes>(got);
    }
    return absl::OkStatus();
}

void run_thread(absl::Status (*work)(const Part&), const Part& part, Outcome& outcome) {
    outcome.status = work(part);
    // Whoever is at the other end must not wait for more.
    if (!outcome.status.ok()) ::shutdown(part.socket, SHUT_RDWR);
    rusage used{};
    ::getrusage(RUSAGE_THREAD, &used);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    outcome.cpu = {.user = seconds(used.ru_utime), .system = seconds(used.ru_stime)};
}

struct Connection {
    UniqueFd sender, receiver;
};

absl::StatusOr<Connection> connect_over_loopback() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), raw, sizeof address) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), raw, &length) != 0)
        return errno_status(errno, "listen");
    Connection both;
    both.sender.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(both.sender.get(), raw, sizeof address) != 0)
        return errno_status(errno, "connect");
    both.receiver.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!both.receiver.valid()) return errno_status(errno, "accept");
    return both;
}

// A file of a guest's RAM, by its name only as long as this lives.
class RamFile {
  public:
    static absl::StatusOr<RamFile> create(RamMounts& mounts, const std::string& name, Bytes size) {
        RamFile file;
        const std::string path = mounts.file_path(v1::MEMORY_BACKING_THP, name);
        GODWIT_RETURN_IF_ERROR(mounts.create_file(v1::MEMORY_BACKING_THP, path, size));
        file.fd_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        const int error = errno;
        ::unlink(path.c_str());
        if (!file.fd_.valid()) return errno_status(error, "open");
        return file;
    }
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    UniqueFd fd_;
};

absl::Status fill(int file, Bytes size) {
    std::vector<uint64_t> block(kChunkBytes / sizeof(uint64_t));
    std::mt19937_64 random(1);
    for (uint64_t& word : block) word = random();
    for (Bytes at = 0; at < size; at += kChunkBytes) {
        const size_t count = std::min<Bytes>(kChunkBytes, size - at);
        if (::pwrite(file, block.data(), count, static_cast<off_t>(at)) !=
            static_cast<ssize_t>(count))
            return errno_status(errno, "Cannot fill the file to be copied");
    }
    return absl::OkStatus();
}

absl::StatusOr<CpuSeconds> copy(int from, int to, Bytes size, int cancel_fd) {
    std::array<Connection, kConnections> connections;
    std::array<Outcome, 2 * kConnections> outcomes;
    {
        std::vector<std::jthread> threads;
        for (size_t i = 0; i < kConnections; ++i) {
            GODWIT_ASSIGN_OR_RETURN(connections[i], connect_over_loopback());
        }
        for (size_t i = 0; i < kConnections; ++i) {
            Part part{.begin = size / kConnections * i,
                      .end = i + 1 == kConnections ? size : size / kConnections * (i + 1),
                      .cancel_fd = cancel_fd};
            part.file = to;
            part.socket = connections[i].receiver.get();
            threads.emplace_back(
                [part, &out = outcomes[2 * i]] { run_thread(receive_part, part, out); });
            part.file = from;
            part.socket = connections[i].sender.get();
            threads.emplace_back(
                [part, &out = outcomes[2 * i + 1]] { run_thread(send_part, part, out); });
        }
    }
    CpuSeconds sum;
    for (const Outcome& outcome : outcomes) {
        GODWIT_RETURN_IF_ERROR(outcome.status);
        sum += outcome.cpu;
    }
    return sum;
}

}  // namespace

absl::StatusOr<Metrics> plain_copy(const LabSetup& setup, Bytes size) {
    if (!setup.hosts[0].wrapper.empty())
        return absl::UnimplementedError("the plain copy knows loopback only");
    GODWIT_ASSIGN_OR_RETURN(const RamFile from,
                            RamFile::create(*setup.mounts, "copy-source", size));
    GODWIT_RETURN_IF_ERROR(fill(from.fd(), size));
    GODWIT_ASSIGN_OR_RETURN(const auto warm,
                            WarmMemory::hold(memory_of_move(size), setup.cancel_fd));
    GODWIT_ASSIGN_OR_RETURN(const double busy_before, host_busy_s());
    const MonotonicTime begun = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const RamFile to,
                            RamFile::create(*setup.mounts, "copy-destination", size));
    GODWIT_ASSIGN_OR_RETURN(const CpuSeconds cpu, copy(from.fd(), to.fd(), size, setup.cancel_fd));
    const MonotonicTime done = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const double busy_after, host_busy_s());
    return Metrics{{"total_ms", to_ms(done - begun)},
                   {"wire_bytes", static_cast<double>(size)},
                   {"cpu_s", cpu.total()},
                   {"cpu_user_s", cpu.user},
                   {"cpu_system_s", cpu.system},
                   {"host_busy_s", busy_after - busy_before}};
}

}  // namespace godwit
