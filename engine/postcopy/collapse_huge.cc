#include "engine/postcopy/collapse_huge.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr int kMadviseCollapse = 25;  // kernel 6.1; Debian 12's headers lack it

// By a sample: every sixteenth page.
bool is_half_there(const RamBlock& block, ChunkIndex chunk) {
    constexpr Bytes kStep = 16 * kPageBytes;
    uint64_t there = 0;
    const Bytes end = (chunk + 1) * kChunkBytes;
    for (Bytes at = chunk * kChunkBytes; at < end; at += kStep) {
        const absl::StatusOr<Bytes> data = find_data(block.file.get(), at, end);
        if (!data.ok()) return false;
        if (*data == at) ++there;
    }
    return there >= kChunkBytes / kStep / 2;
}

bool collapse(int pidfd, uint64_t address) {
    iovec range{.iov_base = reinterpret_cast<void*>(address), .iov_len = kChunkBytes};
    return ::syscall(SYS_process_madvise, pidfd, &range, 1, kMadviseCollapse, 0) ==
           static_cast<long>(kChunkBytes);
}

}  // namespace

Bytes collapse_huge(pid_t pid, const RamBlock& block, std::span<const RamMapping> mappings,
                    const std::stop_token& stop) {
    if (block.backing != Backing::kTmpfsHuge) return 0;
    const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd.valid()) return 0;
    Bytes collapsed = 0;
    for (ChunkIndex chunk = 0; chunk < block.chunk_count() && !stop.stop_requested(); ++chunk) {
        const auto data = find_data(block.file.get(), chunk * kChunkBytes, block.size);
        if (!data.ok() || *data == block.size) break;
        chunk = *data / kChunkBytes;
        if (!is_half_there(block, chunk)) continue;
        const Bytes offset = chunk * kChunkBytes;
        bool all = true;
        for (const RamMapping& mapping : mappings) {
            if (offset < mapping.offset || offset + kChunkBytes > mapping.offset + mapping.length)
                continue;
            all &= collapse(pidfd.get(), mapping.address + (offset - mapping.offset));
        }
        if (all) collapsed += kChunkBytes;
    }
    return collapsed;
}

}  // namespace godwit
