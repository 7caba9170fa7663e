#include "bench/micro/faults/fault_costs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "bench/micro/faults/guest_process.h"
#include "dirty-tracking/attach/attach.h"
#include "engine/base/wait.h"
#include "engine/postcopy/fault_memory.h"
#include "engine/postcopy/punch_stale.h"
#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

constexpr uint64_t kSamples = 8192;  // pages, one of each 16

// RAM of a guest process, all of it written, and a userfaultfd for it.
class Rig {
  public:
    static absl::StatusOr<std::unique_ptr<Rig>> create(Bytes ram, bool huge, uint64_t mode) {
        auto rig = std::make_unique<Rig>();
        GODWIT_RETURN_IF_ERROR(enter_bench_mount(2 * ram, huge));
        GODWIT_ASSIGN_OR_RETURN(RamBlock block, make_bench_block("ram", ram, huge));
        rig->blocks.push_back(std::move(block));
        GODWIT_RETURN_IF_ERROR(rig->write_all());
        GODWIT_ASSIGN_OR_RETURN(rig->guest, GuestProcess::start(rig->blocks[0], 1));
        GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(rig->guest->pid(), {}));
        rig->userfaultfd = ::fcntl(attachment.userfaultfd.get(), F_DUPFD_CLOEXEC, 0);
        rig->duplicate.reset(rig->userfaultfd);
        GODWIT_ASSIGN_OR_RETURN(
            rig->memory,
            FaultMemory::create(rig->guest->pid(), rig->blocks, std::move(attachment.userfaultfd)));
        rig->address = rig->memory->mappings(0)[0].address;
        if (mode == 0) return rig;
        uffdio_register argument{.range = {.start = rig->address, .len = ram}, .mode = mode};
        if (::ioctl(rig->userfaultfd, UFFDIO_REGISTER, &argument) != 0)
            return errno_status(errno, "UFFDIO_REGISTER");
        return rig;
    }

    absl::Status write_all() const {
        const std::vector<std::byte> chunk(kChunkBytes, std::byte{1});
        for (ChunkIndex i = 0; i < blocks[0].chunk_count(); ++i)
            GODWIT_RETURN_IF_ERROR(
                write_fully(blocks[0].file.get(), chunk.data(), kChunkBytes, i * kChunkBytes));
        return absl::OkStatus();
    }
    absl::Status punch_all() const {
        if (::fallocate(blocks[0].file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(blocks[0].size)) != 0)
            return errno_status(errno, "fallocate");
        return absl::OkStatus();
    }
    // `kSamples` pages at most, none beside another, in random order.
    [[nodiscard]] std::vector<PageIndex> samples() const {
        std::vector<PageIndex> pages;
        for (PageIndex page = 3; page < blocks[0].page_count() && pages.size() < kSamples;
             page += 16)
            pages.push_back(page);
        std::mt19937_64 random(1);
        std::shuffle(pages.begin(), pages.end(), random);
        return pages;
    }
    int64_t go_on(PageIndex page, uint64_t count) const {
        uffdio_continue argument{
            .range = {.start = address + page * kPageBytes, .len = count * kPageBytes}};
        if (::ioctl(userfaultfd, UFFDIO_CONTINUE, &argument) == 0) return argument.mapped;
        return -errno;
    }

    std::vector<RamBlock> blocks;
    std::unique_ptr<GuestProcess> guest;
    std::unique_ptr<FaultMemory> memory;
    UniqueFd duplicate;
    int userfaultfd = -1;
    uint64_t address = 0;
};

// The median of many calls that do `pages` pages each: what else the machine does is left out.
double time_us(uint64_t calls, uint64_t pages,
               const std::function<absl::Status(uint64_t call)>& work) {
    std::vector<uint64_t> times;
    times.reserve(calls);
    for (uint64_t call = 0; call < calls; ++call) {
        const MonotonicTime begin = Clock::system().now();
        const absl::Status status = work(call);
        times.push_back(static_cast<uint64_t>((Clock::system().now() - begin).count()));
        if (!status.ok()) fmt::print(stderr, "{}\n", status.ToString());
        if (!status.ok()) return -1;
    }
    return static_cast<double>(percentile(times, 0.5)) / 1000 / static_cast<double>(pages);
}

void print(const char* what, double us) { fmt::print("  {:<58} {:8.2f} us\n", what, us); }

absl::Status punch_and_copy(Bytes ram, bool huge) {
    GODWIT_ASSIGN_OR_RETURN(const auto rig, Rig::create(ram, huge, UFFDIO_REGISTER_MODE_MISSING));
    const RamBlock& block = rig->blocks[0];
    const std::vector<PageIndex> pages = rig->samples();
    PunchTotals totals;
    const auto punch = [&](uint64_t call) {
        ChunkMask mask{};
        mask[pages[call] % kPagesPerChunk / 64] = uint64_t{1} << (pages[call] % 64);
        return punch_stale(block, pages[call] / kPagesPerChunk, mask, totals);
    };
    FillTotals filled;
    const std::vector<std::byte> bytes(kChunkBytes, std::byte{2});
    const auto copy = [&](uint64_t call) {
        return rig->memory->fill(0, pages[call], std::span(bytes).first(kPageBytes), 0, filled);
    };
    if (huge) {
        print("punch of the first page of a huge page: it is split",
              time_us(block.chunk_count(), 1,
                      [&](uint64_t chunk) { return punch_stale(block, chunk, {1}, totals); }));
    }
    print("punch of one page, with a look before and after", time_us(pages.size(), 1, punch));
    print("COPY of one page", time_us(pages.size(), 1, copy));
    print("punch of one page that QEMU has mapped", time_us(pages.size(), 1, punch));
    print("ZEROPAGE of one page", time_us(pages.size(), 1, [&](uint64_t call) {
              return rig->memory->fill_zero(0, {pages[call], pages[call] + 1}, 0, filled);
          }));
    GODWIT_RETURN_IF_ERROR(rig->punch_all());
    GODWIT_RETURN_IF_ERROR(rig->write_all());
    print("punch, a page of runs of 16", time_us(block.chunk_count(), 256, [&](uint64_t chunk) {
              ChunkMask mask;
              mask.fill(0xffff0000ffff);
              return punch_stale(block, chunk, mask, totals);
          }));
    GODWIT_RETURN_IF_ERROR(rig->punch_all());
    print("COPY in bulk, a page of 16", time_us(block.page_count() / 16, 16, [&](uint64_t call) {
              return rig->memory->fill(0, call * 16, std::span(bytes).first(16 * kPageBytes), 0,
                                       filled);
          }));
    return absl::OkStatus();
}

absl::Status write_and_continue(Bytes ram, bool huge) {
    constexpr uint64_t kBoth = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
    GODWIT_ASSIGN_OR_RETURN(const auto rig, Rig::create(ram, huge, kBoth));
    const std::vector<PageIndex> pages = rig->samples();
    const std::vector<std::byte> bytes(kPageBytes, std::byte{2});
    const auto go_on = [&](PageIndex page, uint64_t count) {
        const int64_t done = rig->go_on(page, count);
        return done > 0 ? absl::OkStatus()
                        : errno_status(static_cast<int>(-done), "UFFDIO_CONTINUE");
    };
    print("pwrite of one stale page", time_us(pages.size(), 1, [&](uint64_t call) {
              return write_fully(rig->blocks[0].file.get(), bytes.data(), kPageBytes,
                                 pages[call] * kPageBytes);
          }));
    print("CONTINUE of one page",
          time_us(pages.size(), 1, [&](uint64_t call) { return go_on(pages[call], 1); }));
    print("CONTINUE in bulk, a page of 12",
          time_us(pages.size(), 12, [&](uint64_t call) { return go_on(pages[call] + 1, 12); }));
    GODWIT_ASSIGN_OR_RETURN(const auto whole, Rig::create(ram, huge, kBoth));
    print("CONTINUE in bulk, a page of 512",
          time_us(whole->blocks[0].chunk_count(), 512, [&](uint64_t chunk) {
              const int64_t done = whole->go_on(chunk * kPagesPerChunk, kPagesPerChunk);
              return done > 0 ? absl::OkStatus()
                              : errno_status(static_cast<int>(-done), "UFFDIO_CONTINUE");
          }));
    return absl::OkStatus();
}

// The guest's time for a page that is there and valid: by an upcall, and without one.
absl::Status valid_pages(Bytes ram, bool huge) {
    for (const bool minor : {true, false}) {
        GODWIT_ASSIGN_OR_RETURN(const auto rig, Rig::create(ram, huge,
                                                            minor ? UFFDIO_REGISTER_MODE_MINOR
                                                                  : UFFDIO_REGISTER_MODE_MISSING));
        const std::vector<PageIndex> pages = rig->samples();
        GODWIT_ASSIGN_OR_RETURN(const Wakeup done, Wakeup::create());
        std::jthread answerer([&] {
            run_realtime();
            std::array<Fault, FaultMemory::kReadLimit> faults;
            while (wait_readable(rig->memory->fd(), done.fd(), std::nullopt).ok()) {
                const auto count = rig->memory->read(faults);
                for (size_t i = 0; count.ok() && i < *count; ++i)
                    (void)rig->go_on(faults[i].page, 1);
            }
        });
        rig->guest->touch(pages, 0, std::chrono::microseconds(20));
        const auto touched = rig->guest->touched_ns();
        std::vector<uint64_t> times(touched.begin(), touched.end());
        print(minor ? "guest touches a valid page: local upcall, p50"
                    : "guest touches a valid page: the kernel alone, p50",
              static_cast<double>(percentile(times, 0.5)) / 1000);
        print("    p99", static_cast<double>(percentile(times, 0.99)) / 1000);
        done.notify();
    }
    return absl::OkStatus();
}

}  // namespace

absl::Status measure_costs(Bytes ram) {
    run_realtime();
    for (const bool huge : {false, true}) {
        fmt::print("\n{} tmpfs, {} of RAM, all of it there; us a page of 4 KiB\n",
                   huge ? "Huge" : "4 KiB", format_bytes(ram));
        fmt::print(" MISSING: stale pages are punched, and come by COPY\n");
        GODWIT_RETURN_IF_ERROR(punch_and_copy(ram, huge));
        fmt::print(" MINOR: stale pages are overwritten, and every page needs CONTINUE\n");
        GODWIT_RETURN_IF_ERROR(write_and_continue(ram, huge));
        fmt::print(" Valid pages\n");
        GODWIT_RETURN_IF_ERROR(valid_pages(ram, huge));
    }
    return absl::OkStatus();
}

}  // namespace godwit
