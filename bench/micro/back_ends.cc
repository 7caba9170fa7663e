// Both back ends beside each other: the same RAM file in two VMs of a few bytes of guest code, one
// under stock KVM with uffd-wp, one with the resident in its process. Each iteration does the same
// with the one and then with the other, so that the ratio of the two comes from one run.
// Sizes are chosen by --benchmark_filter=MiB:1024/; what does not fit into memory is skipped.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

// 4 GiB: above everything that is special in a PC's address space.
constexpr PageIndex kRamPage = PageIndex{1} << 20;
// The program answers within 20 s: so many writes of a vCPU at once.
constexpr uint64_t kWritesAtOnce = uint64_t{1} << 17;

Bytes available_memory() {
    std::ifstream info("/proc/meminfo");
    for (std::string line; std::getline(info, line);) {
        unsigned long kib = 0;
        if (std::sscanf(line.c_str(), "MemAvailable: %lu", &kib) == 1) return kib << 10;
    }
    return 0;
}

// One VM, its tracker, and what they cost.
struct Side {
    std::unique_ptr<ResidentTarget> vm;
    std::unique_ptr<DirtyTracker> tracker;
    std::vector<double> costs_ms;  // of each iteration
    double write_ns = 0;
    uint64_t writes = 0;

    double median_ms() {
        std::sort(costs_ms.begin(), costs_ms.end());
        return costs_ms.empty() ? 0 : costs_ms[costs_ms.size() / 2];
    }
    // The vCPU writes one page of `stride`: `run` pages side by side, then none for a while.
    bool write(uint64_t page_count, uint64_t stride, uint64_t run = 1) {
        const MonotonicTime begin = Clock::system().now();
        for (PageIndex first = 0; first < run; ++first) {
            const uint64_t count = page_count / (stride * run);
            if (!write_every(first, stride * run, count)) return false;
            writes += count;
        }
        write_ns += to_ms(Clock::system().now() - begin) * 1e6;
        return true;
    }

  private:
    [[nodiscard]] bool write_every(PageIndex first, uint64_t step, uint64_t count) const {
        for (uint64_t done = 0; done < count; done += kWritesAtOnce) {
            std::ostringstream line;
            line << "stride 0 " << (kRamPage + first + done * step) * kPageBytes << ' '
                 << step * kPageBytes << ' ' << std::min(kWritesAtOnce, count - done);
            if (vm->tell(line.str()) != "fine") return false;
        }
        return true;
    }
};

// The file lives on the second VM's mount; the first maps it as well.
struct Pair {
    Side uffd;
    Side kvm;
    absl::Status status;

    Pair(Bytes size, bool huge) { status = make(size, huge); }
    ~Pair() {
        uffd.tracker.reset();
        kvm.tracker.reset();
        uffd.vm.reset();
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;

    [[nodiscard]] uint64_t page_count() const { return kvm.vm->blocks[0].page_count(); }
    [[nodiscard]] double gib() const {
        return static_cast<double>(kvm.vm->blocks[0].size) / (uint64_t{1} << 30);
    }

  private:
    absl::Status make(Bytes size, bool huge) {
        if (std::string reason = why_no_resident(); !reason.empty())
            return absl::FailedPreconditionError(reason);
        if (available_memory() < size + size / 4)
            return absl::FailedPreconditionError("not enough memory for this size");
        ResidentTargetOptions options;
        options.mount_options = std::string("size=100%,noswap,huge=") + (huge ? "always" : "never");
        options.ram = {size};
        GODWIT_ASSIGN_OR_RETURN(kvm.vm, ResidentTarget::start(options));
        options.ram = {};
        options.preload = "";
        GODWIT_ASSIGN_OR_RETURN(uffd.vm, ResidentTarget::start(options));
        std::vector<RamBlock>& blocks = kvm.vm->blocks;
        if (huge) blocks[0].backing = Backing::kTmpfsHuge;
        if (uffd.vm->tell("ram " + blocks[0].path + " 0 " + std::to_string(size)) != "fine")
            return absl::UnavailableError("no RAM");
        for (const Side* side : {&kvm, &uffd})
            if (side->vm->slot(1, kRamPage, 0, {0, size / kPageBytes}) != "fine")
                return absl::UnavailableError("no slot");
        for (Side* side : {&kvm, &uffd})
            if (!side->write(size / kPageBytes, 1)) return absl::UnavailableError("no guest");
        return make_trackers(blocks);
    }
    absl::Status make_trackers(std::span<const RamBlock> blocks) {
        const pid_t uffd_pid = uffd.vm->program->pid();
        GODWIT_ASSIGN_OR_RETURN(
            uffd.tracker,
            UffdWriteProtectTracker::create(uffd_pid, blocks, other_threads(uffd_pid, uffd_pid)));
        const pid_t kvm_pid = kvm.vm->program->pid();
        GODWIT_ASSIGN_OR_RETURN(kvm.tracker, KvmDirtyLogTracker::create(
                                                 kvm_pid, blocks, other_threads(kvm_pid, kvm_pid),
                                                 kvm.vm->socket_path));
        return absl::OkStatus();
    }
};

void report(benchmark::State& state, Pair& pair) {
    const double uffd_ms = pair.uffd.median_ms();
    const double kvm_ms = pair.kvm.median_ms();
    // 0: something on this host split a huge page meanwhile, and QEMU's view was scanned whole.
    state.counters["skims"] =
        static_cast<const KvmDirtyLogTracker*>(pair.kvm.tracker.get())->skims() ? 1 : 0;
    state.counters["uffd_ms_per_GiB"] = uffd_ms / pair.gib();
    state.counters["kvm_ms_per_GiB"] = kvm_ms / pair.gib();
    state.counters["kvm_to_uffd"] = kvm_ms / uffd_ms;
    for (const auto& [name, side] :
         {std::pair{"uffd_ns_per_write", &pair.uffd}, std::pair{"kvm_ns_per_write", &pair.kvm}})
        if (side->writes != 0)
            state.counters[name] = side->write_ns / static_cast<double>(side->writes);
}

template <typename Work>
bool time_side(benchmark::State& state, Side& side, Work&& work) {
    const MonotonicTime begin = Clock::system().now();
    const absl::Status status = work(*side.tracker);
    side.costs_ms.push_back(to_ms(Clock::system().now() - begin));
    if (!status.ok()) state.SkipWithError(status.ToString().c_str());
    return status.ok();
}

void both_arm(benchmark::State& state) {
    Pair pair(static_cast<Bytes>(state.range(0)) << 20, state.range(1) != 0);
    if (!pair.status.ok()) return state.SkipWithError(pair.status.ToString().c_str());
    const auto arm = [](DirtyTracker& tracker) { return tracker.start(); };
    for (auto _ : state) {
        for (Side* side : {&pair.uffd, &pair.kvm}) {
            if (!side->tracker->stop().ok()) state.SkipWithError("stop");
            if (!side->write(pair.page_count(), 1)) state.SkipWithError("write");
        }
        if (!time_side(state, pair.uffd, arm) || !time_side(state, pair.kvm, arm)) break;
        state.SetIterationTime(pair.kvm.costs_ms.back() / 1e3);
    }
    report(state, pair);
}

// What a round costs: the collect, and the re-arming of each run of pages before it would be read.
absl::Status collect_and_rearm(DirtyTracker& tracker, PageSet& dirty) {
    GODWIT_RETURN_IF_ERROR(tracker.collect(dirty, dirty));
    absl::Status first;
    for (PageIndex begin = dirty[0].next_set(0); begin < dirty[0].page_count();) {
        const PageIndex chunk_end = (begin / kPagesPerChunk + 1) * kPagesPerChunk;
        const PageIndex end = std::min(dirty[0].next_clear(begin), chunk_end);
        first.Update(tracker.rearm(0, {begin, end}));
        begin = dirty[0].next_set(end);
    }
    return first;
}

// QEMU writes a page in each of these chunks, as a disk's DMA would.
bool write_as_qemu(const Side& side, uint64_t page_count, uint64_t permille) {
    if (permille == 0) return true;
    Pages pages;
    for (PageIndex page = 0; page < page_count; page += kPagesPerChunk * 1000 / permille)
        pages.insert(pages.end(), page);
    return side.vm->tell("store 0", pages) == "fine";
}

void both_collect(benchmark::State& state) {
    Pair pair(static_cast<Bytes>(state.range(0)) << 20, state.range(1) != 0);
    if (!pair.status.ok()) return state.SkipWithError(pair.status.ToString().c_str());
    const auto stride = static_cast<uint64_t>(1000 / state.range(2));
    const auto qemu_permille = static_cast<uint64_t>(state.range(3));
    const auto run = static_cast<uint64_t>(state.range(4));
    PageSet dirty{PageBitmap(pair.page_count())};
    const auto round = [&](DirtyTracker& tracker) { return collect_and_rearm(tracker, dirty); };
    for (Side* side : {&pair.uffd, &pair.kvm}) {
        if (!side->tracker->start().ok()) state.SkipWithError("start");
        // The first of each is another case: huge pages are split, chunks touched.
        for (int i = 0; i < 2; ++i) {
            if (!side->write(pair.page_count(), stride, run) ||
                !write_as_qemu(*side, pair.page_count(), qemu_permille) ||
                !round(*side->tracker).ok())
                state.SkipWithError("warming up");
        }
        side->write_ns = 0;
        side->writes = 0;
    }
    const uint64_t expected = pair.page_count() / (stride * run) * run;
    for (auto _ : state) {
        for (Side* side : {&pair.uffd, &pair.kvm}) {
            if (!side->write(pair.page_count(), stride, run) ||
                !write_as_qemu(*side, pair.page_count(), qemu_permille))
                state.SkipWithError("write");
            clear_pages(dirty);
            if (!time_side(state, *side, round)) break;
            if (count_pages(dirty) < expected) state.SkipWithError("a write was lost");
        }
        state.SetIterationTime(pair.kvm.costs_ms.back() / 1e3);
    }
    state.counters["found"] = static_cast<double>(count_pages(dirty));
    report(state, pair);
}

const std::vector<int64_t> kSizesMib{1024, 4096, 16384};
const std::vector<int64_t> kHuge{0, 1};

BENCHMARK(both_arm)
    ->ArgNames({"MiB", "huge"})
    ->ArgsProduct({kSizesMib, kHuge})
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(both_collect)
    ->ArgNames({"MiB", "huge", "dirty_permille", "qemu_permille", "run"})
    ->ArgsProduct({kSizesMib, kHuge, {1, 10, 100, 1000}, {0, 100}, {1, 16}})
    ->UseManualTime()
    ->Iterations(11)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace godwit
