// Chunks into a RAM file that has nothing there yet, on each backing and by each way that there is;
// the limit is memcpy into memory that is there. Whether the chunk is in a buffer already or still
// in a socket makes two families.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <thread>

#include "bench/lab/warm_memory.h"
#include "bench/micro/transport/against.h"
#include "bench/micro/transport/samples.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit::bench {
namespace {

enum class Way { kPwrite, kIoUring, kMapping };

// A RAM file full of holes, which has its chunks filled one after another.
class FreshFile {
  public:
    static absl::StatusOr<FreshFile> create(Backing backing) {
        GODWIT_RETURN_IF_ERROR(WarmMemory::hold(bytes_of_sets(), -1).status());
        FreshFile fresh;
        GODWIT_ASSIGN_OR_RETURN(fresh.file_, make_empty_ram_file(backing));
        GODWIT_ASSIGN_OR_RETURN(fresh.map_,
                                Mapping::map_shared(fresh.file_.get(), bytes_of_sets()));
        return fresh;
    }
    // Where the n-th chunk goes; holes again once all are filled.
    Bytes next(size_t n) {
        const Bytes offset = n * kChunkBytes % bytes_of_sets();
        if (offset == 0)
            ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(bytes_of_sets()));
        return offset;
    }
    [[nodiscard]] int fd() const { return file_.get(); }
    [[nodiscard]] std::span<std::byte> chunk(Bytes offset) const {
        return map_.bytes().subspan(offset, kChunkBytes);
    }

  private:
    UniqueFd file_;
    Mapping map_;
};

// One write at a time, as the receiving threads would do it.
class Writes {
  public:
    Writes() : ok_(::io_uring_queue_init(4, &ring_, 0) == 0) {}
    ~Writes() {
        if (ok_) ::io_uring_queue_exit(&ring_);
    }
    Writes(const Writes&) = delete;
    Writes& operator=(const Writes&) = delete;

    bool write(int fd, std::span<const std::byte> bytes, Bytes offset) {
        while (ok_ && !bytes.empty()) {
            io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
            ::io_uring_prep_write(entry, fd, bytes.data(), static_cast<unsigned>(bytes.size()),
                                  offset);
            io_uring_cqe* done = nullptr;
            if (::io_uring_submit(&ring_) != 1 || ::io_uring_wait_cqe(&ring_, &done) != 0)
                return false;
            const int result = done->res;
            ::io_uring_cqe_seen(&ring_, done);
            if (result <= 0) return false;
            bytes = bytes.subspan(static_cast<size_t>(result));
            offset += static_cast<Bytes>(result);
        }
        return ok_;
    }

  private:
    io_uring ring_{};
    const bool ok_;
};

void place_chunk(benchmark::State& state, Way way, Backing backing) {
    std::optional<ReservedHugePages> reserve;
    if (backing == Backing::kHugetlb2M)
        reserve.emplace(static_cast<long>(bytes_of_sets() / kChunkBytes));
    auto fresh = FreshFile::create(backing);
    if (!fresh.ok()) return state.SkipWithError(std::string(fresh.status().message()).c_str());
    const auto set = sample(Kind::kNoise);
    Writes writes;
    run(state, {.work =
                    [&](size_t n) {
                        const Bytes offset = fresh->next(n);
                        const std::span<const std::byte> from = staging(n);
                        bool ok = true;
                        switch (way) {
                            case Way::kPwrite:
                                ok =
                                    write_fully(fresh->fd(), from.data(), from.size(), offset).ok();
                                break;
                            case Way::kIoUring:
                                ok = writes.write(fresh->fd(), from, offset);
                                break;
                            case Way::kMapping:
                                std::memcpy(fresh->chunk(offset).data(), from.data(), from.size());
                        }
                        if (!ok) state.SkipWithError("a write failed");
                    },
                .limit =
                    [&](size_t n) {
                        std::memcpy(far_chunk_of(set, n).data(), staging(n).data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kChunkBytes});
}

// The same from a socket: into a buffer and from there into the file, or into its mapped pages.
void receive_chunk(benchmark::State& state, Way way, Backing backing) {
    std::optional<ReservedHugePages> reserve;
    if (backing == Backing::kHugetlb2M)
        reserve.emplace(static_cast<long>(bytes_of_sets() / kChunkBytes));
    auto fresh = FreshFile::create(backing);
    if (!fresh.ok()) return state.SkipWithError(std::string(fresh.status().message()).c_str());
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return state.SkipWithError("socketpair");
    const UniqueFd near(ends[0]);
    const auto set = sample(Kind::kNoise);
    const std::jthread sender([set, far = UniqueFd(ends[1])] {
        for (size_t n = 0;; ++n) {
            auto chunk = chunk_of(set, n);
            while (!chunk.empty()) {
                const ssize_t sent = ::send(far.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
                if (sent <= 0) return;
                chunk = chunk.subspan(static_cast<size_t>(sent));
            }
        }
    });
    // A page fault in the mapping may end a recv(2) early.
    const auto receive = [&](std::span<std::byte> to) {
        while (!to.empty()) {
            const ssize_t got = ::recv(near.get(), to.data(), to.size(), MSG_WAITALL);
            if (got <= 0) return state.SkipWithError("recv");
            to = to.subspan(static_cast<size_t>(got));
        }
    };
    run(state, {.work =
                    [&](size_t n) {
                        const Bytes offset = fresh->next(n);
                        if (way == Way::kMapping) return receive(fresh->chunk(offset));
                        receive(staging(n));
                        if (!write_fully(fresh->fd(), staging(n).data(), kChunkBytes, offset).ok())
                            state.SkipWithError("pwrite");
                    },
                .limit = [&](size_t n) { receive(staging(n)); },
                .bytes = kChunkBytes});
    ::shutdown(near.get(), SHUT_RDWR);
}

BENCHMARK_CAPTURE(place_chunk, huge_pwrite, Way::kPwrite, Backing::kTmpfsHuge)->UseManualTime();
BENCHMARK_CAPTURE(place_chunk, huge_io_uring, Way::kIoUring, Backing::kTmpfsHuge)->UseManualTime();
BENCHMARK_CAPTURE(place_chunk, huge_mapping, Way::kMapping, Backing::kTmpfsHuge)->UseManualTime();
BENCHMARK_CAPTURE(place_chunk, 4k_pwrite, Way::kPwrite, Backing::kTmpfs4k)->UseManualTime();
BENCHMARK_CAPTURE(place_chunk, 4k_io_uring, Way::kIoUring, Backing::kTmpfs4k)->UseManualTime();
BENCHMARK_CAPTURE(place_chunk, 4k_mapping, Way::kMapping, Backing::kTmpfs4k)->UseManualTime();
// There is no write(2) on hugetlbfs.
BENCHMARK_CAPTURE(place_chunk, hugetlb_mapping, Way::kMapping, Backing::kHugetlb2M)
    ->UseManualTime();
BENCHMARK_CAPTURE(receive_chunk, huge_pwrite, Way::kPwrite, Backing::kTmpfsHuge)->UseManualTime();
BENCHMARK_CAPTURE(receive_chunk, huge_mapping, Way::kMapping, Backing::kTmpfsHuge)->UseManualTime();
BENCHMARK_CAPTURE(receive_chunk, 4k_pwrite, Way::kPwrite, Backing::kTmpfs4k)->UseManualTime();
BENCHMARK_CAPTURE(receive_chunk, 4k_mapping, Way::kMapping, Backing::kTmpfs4k)->UseManualTime();
BENCHMARK_CAPTURE(receive_chunk, hugetlb_mapping, Way::kMapping, Backing::kHugetlb2M)
    ->UseManualTime();

}  // namespace
}  // namespace godwit::bench
