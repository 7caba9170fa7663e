// What dirty tracking costs: arming, collecting, and the writer's first write to an armed page.
// The mount is in a namespace of this process and the writer dies with it: nothing is left behind,
// however it ends.
#include <benchmark/benchmark.h>
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
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dirty-tracking/attach/attach.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"

namespace godwit {
namespace {

constexpr const char* kMountPoint = "/tmp";  // everybody has it; covered in our namespace only

struct Command {
    uint64_t stride = 1;  // writes every stride-th page
};

// Maps the file and writes where it is told, in a process of its own.
class Writer {
  public:
    static std::unique_ptr<Writer> start(const std::string& path, Bytes size) {
        std::array<int, 2> in{};
        std::array<int, 2> out{};
        if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
            return nullptr;
        UniqueFd child_in(in[0]);
        UniqueFd child_out(out[1]);
        const pid_t pid = ::fork();
        if (pid == 0) serve(path, size, child_in.get(), child_out.get());
        return std::unique_ptr<Writer>(new Writer(pid, UniqueFd(in[1]), UniqueFd(out[0])));
    }
    ~Writer() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    pid_t pid() const { return pid_; }
    // Nanoseconds that the writes took.
    uint64_t write(uint64_t stride) const {
        const Command command{stride};
        uint64_t nanoseconds = 0;
        if (::write(to_.get(), &command, sizeof command) != sizeof command ||
            ::read(from_.get(), &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds)
            std::abort();
        return nanoseconds;
    }

  private:
    Writer(pid_t pid, UniqueFd to, UniqueFd from)
        : pid_(pid), to_(std::move(to)), from_(std::move(from)) {}

    [[noreturn]] static void serve(const std::string& path, Bytes size, int in, int out) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        // At a multiple of 2 MiB, so that huge pages are mapped as such.
        auto* room = static_cast<char*>(::mmap(nullptr, size + kChunkBytes, PROT_NONE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        const auto address = reinterpret_cast<uintptr_t>(room);
        char* place = room + (kChunkBytes - address % kChunkBytes) % kChunkBytes;
        void* data = ::mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        if (data == MAP_FAILED) ::_exit(1);
        volatile char* bytes = place;
        Command command;
        while (::read(in, &command, sizeof command) == sizeof command) {
            const MonotonicTime begin = Clock::system().now();
            for (Bytes at = 0; at < size; at += command.stride * kPageBytes)
                bytes[at] = bytes[at] + 1;
            const auto took = static_cast<uint64_t>((Clock::system().now() - begin).count());
            if (::write(out, &took, sizeof took) != sizeof took) break;
        }
        ::_exit(0);
    }

    pid_t pid_;
    UniqueFd to_;
    UniqueFd from_;
};

// Guest RAM of `size` on a tmpfs, all of it written, and its tracker.
struct Rig {
    std::vector<RamBlock> blocks;
    std::unique_ptr<Writer> writer;
    std::unique_ptr<UffdWriteProtectTracker> tracker;
    std::string error;

    Rig(Bytes size, bool huge) {
        const std::string options =
            fmt::format("size={},huge={}", 2 * size, huge ? "always" : "never");
        if (::mount("godwit-bench", kMountPoint, "tmpfs", 0, options.c_str()) != 0) {
            error = "cannot mount a tmpfs: needs root";
            return;
        }
        mounted_ = true;
        const std::string path = std::string(kMountPoint) + "/ram";
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) error = "ftruncate";
        auto block = open_ram_block("ram", path, huge ? Backing::kTmpfsHuge : Backing::kTmpfs4k);
        if (!block.ok()) {
            error = block.status().ToString();
            return;
        }
        blocks.push_back(*std::move(block));
        writer = Writer::start(path, size);
        writer->write(1);
        auto made = UffdWriteProtectTracker::create(writer->pid(), blocks, {});
        if (!made.ok()) {
            error = made.status().ToString();
            return;
        }
        tracker = *std::move(made);
    }
    ~Rig() {
        tracker.reset();
        writer.reset();
        blocks.clear();
        if (mounted_) ::umount2(kMountPoint, MNT_DETACH);
    }
    Rig(const Rig&) = delete;
    Rig& operator=(const Rig&) = delete;

    PageSet empty_set() const { return {PageBitmap(blocks[0].page_count())}; }

  private:
    bool mounted_ = false;
};

double gib(const Rig& rig) { return static_cast<double>(rig.blocks[0].size) / (1 << 30); }

// Sets the iteration's time and the counter "ms_per_GiB" (of RAM, not of what was written).
class Meter {
  public:
    explicit Meter(benchmark::State& state) : state_(state) {}
    template <typename Work>
    void time(Work&& work) {
        const MonotonicTime begin = Clock::system().now();
        const absl::Status status = work();
        const Duration took = Clock::system().now() - begin;
        if (!status.ok()) state_.SkipWithError(status.ToString().c_str());
        add(took);
    }
    void add(Duration took) {
        total_ms_ += to_ms(took);
        state_.SetIterationTime(std::chrono::duration<double>(took).count());
    }
    void report(const Rig& rig) const {
        state_.counters["ms_per_GiB"] =
            total_ms_ / static_cast<double>(state_.iterations()) / gib(rig);
    }

  private:
    benchmark::State& state_;
    double total_ms_ = 0;
};

Rig make_rig(const benchmark::State& state) {
    return Rig(static_cast<Bytes>(state.range(0)) << 20, state.range(1) != 0);
}

void arm(benchmark::State& state) {
    const Rig rig = make_rig(state);
    if (!rig.error.empty()) return state.SkipWithError(rig.error.c_str());
    Meter meter(state);
    for (auto _ : state) {
        if (!rig.tracker->stop().ok()) state.SkipWithError("stop");
        rig.writer->write(1);  // maps everything again, huge pages as such
        meter.time([&] { return rig.tracker->start(); });
    }
    meter.report(rig);
}

void collect(benchmark::State& state) {
    const Rig rig = make_rig(state);
    if (!rig.error.empty()) return state.SkipWithError(rig.error.c_str());
    const auto stride = static_cast<uint64_t>(1000 / state.range(2));
    if (!rig.tracker->start().ok()) state.SkipWithError("start");
    Meter meter(state);
    PageSet dirty = rig.empty_set();
    for (auto _ : state) {
        rig.writer->write(stride);
        clear_pages(dirty);
        meter.time([&] { return rig.tracker->collect(dirty, dirty); });
        if (count_pages(dirty) != (rig.blocks[0].page_count() + stride - 1) / stride)
            state.SkipWithError("not exactly the written pages were reported");
    }
    meter.report(rig);
}

// The writer's time for a page that was armed again (armed: 1), or not tracked (0).
void redirty(benchmark::State& state) {
    const Rig rig = make_rig(state);
    if (!rig.error.empty()) return state.SkipWithError(rig.error.c_str());
    const bool armed = state.range(2) != 0;
    if (armed && !rig.tracker->start().ok()) state.SkipWithError("start");
    Meter meter(state);
    PageSet dirty = rig.empty_set();
    uint64_t total_ns = 0;
    for (auto _ : state) {
        const uint64_t took_ns = rig.writer->write(1);
        total_ns += took_ns;
        meter.add(Duration(took_ns));
        if (armed && !rig.tracker->collect(dirty, dirty).ok()) state.SkipWithError("collect");
    }
    meter.report(rig);
    state.counters["ns_per_page"] = static_cast<double>(total_ns) /
                                    static_cast<double>(state.iterations()) /
                                    static_cast<double>(rig.blocks[0].page_count());
}

// How long attach holds a thread that waits.
void attach_hold(benchmark::State& state) {
    std::vector<double> holds_us;
    for (auto _ : state) {
        std::array<int, 2> ready{};
        if (::pipe2(ready.data(), O_CLOEXEC) != 0) state.SkipWithError("pipe2");
        UniqueFd settled(ready[0]);
        UniqueFd tell(ready[1]);
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            // Blocked like QEMU's threads, on a stack that was used before.
            volatile char stack[32768];
            for (size_t i = 0; i < sizeof stack; i += kPageBytes) stack[i] = 1;
            (void)!::write(tell.get(), "x", 1);
            while (true) ::pause();
        }
        char byte = 0;
        (void)!::read(settled.get(), &byte, 1);
        const auto attachment = attach_userfaultfd(pid, {});
        if (!attachment.ok()) {
            state.SkipWithError(attachment.status().ToString().c_str());
        } else {
            state.SetIterationTime(std::chrono::duration<double>(attachment->hold).count());
            holds_us.push_back(to_ms(attachment->hold) * 1000);
        }
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    std::sort(holds_us.begin(), holds_us.end());
    if (holds_us.empty()) return;
    state.counters["p50_us"] = holds_us[holds_us.size() / 2];
    state.counters["p99_us"] = holds_us[holds_us.size() * 99 / 100];
    state.counters["max_us"] = holds_us.back();
}

const std::vector<int64_t> kTrackedMib{256, 1024};
const std::vector<int64_t> kBacking{0, 1};

BENCHMARK(attach_hold)->Iterations(500)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(arm)
    ->ArgNames({"MiB", "huge"})
    ->ArgsProduct({kTrackedMib, kBacking})
    ->UseManualTime()
    ->Iterations(10)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(collect)
    ->ArgNames({"MiB", "huge", "dirty_permille"})
    ->ArgsProduct({kTrackedMib, kBacking, {1, 10, 100, 1000}})
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(redirty)
    ->ArgNames({"MiB", "huge", "armed"})
    ->ArgsProduct({kTrackedMib, kBacking, {0, 1}})
    ->UseManualTime()
    ->Iterations(10)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        fmt::print(stderr, "tracker_bench: skipped: needs root for a mount namespace\n");
        return 0;
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
