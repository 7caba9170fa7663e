#include "bench/micro/faults/guest_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "engine/base/clock.h"

namespace godwit {
namespace {

constexpr const char* kMountPoint = "/tmp";
constexpr size_t kMaxPages = size_t{1} << 20;
constexpr size_t kSharedBytes = 2 * kMaxPages * sizeof(uint64_t);

volatile std::byte* map_aligned(int fd, Bytes size) {
    auto* room =
        static_cast<std::byte*>(::mmap(nullptr, size + kChunkBytes, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    const auto address = reinterpret_cast<uintptr_t>(room);
    std::byte* place = room + (kChunkBytes - address % kChunkBytes) % kChunkBytes;
    void* data = ::mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (data == MAP_FAILED) ::_exit(1);
    return place;
}

}  // namespace

absl::Status enter_bench_mount(Bytes size, bool huge) {
    static const bool entered = ::unshare(CLONE_NEWNS) == 0 &&
                                ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    if (!entered) return errno_status(errno, "unshare(CLONE_NEWNS)");
    ::umount2(kMountPoint, MNT_DETACH);  // what an earlier configuration left
    const std::string options = fmt::format("size={},huge={}", size, huge ? "always" : "never");
    if (::mount("godwit-bench", kMountPoint, "tmpfs", 0, options.c_str()) != 0)
        return errno_status(errno, "mount of a tmpfs");
    return absl::OkStatus();
}

absl::StatusOr<RamBlock> make_bench_block(const std::string& name, Bytes size, bool huge) {
    const std::string path = std::string(kMountPoint) + "/" + name;
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return errno_status(errno, path);
    return open_ram_block("ram", path, huge ? Backing::kTmpfsHuge : Backing::kTmpfs4k);
}

struct GuestProcess::Order {
    uint64_t count = 0;
    uint64_t view = 0;
    int64_t think_ns = 0;
};

absl::StatusOr<std::unique_ptr<GuestProcess>> GuestProcess::start(const RamBlock& block,
                                                                  int views) {
    const UniqueFd memory(::memfd_create("godwit-bench", MFD_CLOEXEC));
    if (::ftruncate(memory.get(), kSharedBytes) != 0) return errno_status(errno, "memfd");
    GODWIT_ASSIGN_OR_RETURN(Mapping shared, Mapping::map_shared(memory.get(), kSharedBytes));
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
        return errno_status(errno, "pipe2");
    const pid_t pid = ::fork();
    if (pid < 0) return errno_status(errno, "fork");
    if (pid == 0) serve(block.path, block.size, views, shared.data(), in[0], out[1]);
    ::close(in[0]);
    ::close(out[1]);
    std::unique_ptr<GuestProcess> guest(new GuestProcess(pid, std::move(shared), in[1], out[0]));
    guest->touched_ns();  // it has mapped everything
    return guest;
}

GuestProcess::~GuestProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void GuestProcess::serve(const std::string& path, Bytes size, int views, std::byte* shared, int in,
                         int out) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Nothing else is inherited: the userfaultfd of an earlier guest would be taken for ours.
    constexpr int kKept = 1000;
    in = ::fcntl(in, F_DUPFD, kKept);
    out = ::fcntl(out, F_DUPFD, kKept);
    ::close_range(STDERR_FILENO + 1, kKept - 1, 0);
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    std::vector<volatile std::byte*> mapped;
    mapped.reserve(static_cast<size_t>(views));
    for (int i = 0; i < views; ++i) mapped.push_back(map_aligned(fd, size));
    const auto* pages = reinterpret_cast<const PageIndex*>(shared);
    auto* times = reinterpret_cast<uint64_t*>(shared) + kMaxPages;
    std::fill(times, times + kMaxPages, 0);  // it is there: this process faults on RAM only
    const Clock& clock = Clock::system();
    Order order;
    uint64_t sum = 0;
    while (::write(out, &order.count, sizeof order.count) == sizeof order.count &&
           ::read(in, &order, sizeof order) == sizeof order) {
        volatile std::byte* data = mapped[order.view];
        MonotonicTime begin = clock.now();
        for (uint64_t i = 0; i < order.count; ++i) {
            const MonotonicTime due = begin + Duration(order.think_ns);
            while (clock.now() < due) sum += i;
            begin = clock.now();
            sum += static_cast<uint64_t>(data[pages[i] * kPageBytes]);
            const MonotonicTime end = clock.now();
            times[i] = static_cast<uint64_t>((end - begin).count());
            begin = end;
        }
    }
    ::_exit(sum == 42 ? 1 : 0);
}

void GuestProcess::touch(std::span<const PageIndex> pages, int view, Duration think) const {
    const Order order{.count = std::min(pages.size(), kMaxPages),
                      .view = static_cast<uint64_t>(view),
                      .think_ns = think.count()};
    std::copy_n(pages.begin(), order.count, reinterpret_cast<PageIndex*>(shared_.data()));
    if (::write(to_.get(), &order, sizeof order) != sizeof order) std::abort();
}

std::span<const uint64_t> GuestProcess::touched_ns() const {
    uint64_t count = 0;
    if (::read(from_.get(), &count, sizeof count) != sizeof count) return {};
    return {reinterpret_cast<const uint64_t*>(shared_.data()) + kMaxPages, count};
}

uint64_t percentile(std::vector<uint64_t>& values, double part) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<size_t>(part * static_cast<double>(values.size()));
    return values[std::min(rank, values.size() - 1)];
}

}  // namespace godwit
