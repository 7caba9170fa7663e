#include "engine/base/ram_block.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace godwit {

RamBlock without_file(const RamBlock& block) {
    return {.name = block.name,
            .path = block.path,
            .kept_base = block.kept_base,
            .size = block.size,
            .backing = block.backing,
            .device = block.device,
            .inode = block.inode};
}

absl::StatusOr<RamBlock> open_ram_block(std::string name, std::string path, Backing backing) {
    RamBlock block{.name = std::move(name), .path = std::move(path), .backing = backing};
    block.file.reset(::open(block.path.c_str(), O_RDWR | O_CLOEXEC));
    if (!block.file.valid())
        return errno_status(errno, fmt::format("Cannot open the RAM file {}", block.path));
    struct stat info {};
    if (::fstat(block.file.get(), &info) != 0) return errno_status(errno, "fstat of a RAM file");
    block.size = static_cast<Bytes>(info.st_size);
    block.device = info.st_dev;
    block.inode = info.st_ino;
    if (block.size == 0 || block.size % kChunkBytes != 0)
        return absl::InvalidArgumentError(
            fmt::format("RAM file {} has {} bytes: no multiple of 2 MiB", block.path, block.size));
    return block;
}

std::vector<uint64_t> chunk_counts(std::span<const RamBlock> blocks) {
    std::vector<uint64_t> counts;
    for (const RamBlock& block : blocks) counts.push_back(block.chunk_count());
    return counts;
}

absl::StatusOr<Bytes> find_data(int fd, Bytes begin, Bytes end) {
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data >= 0) return std::min(static_cast<Bytes>(data), end);
    if (errno == ENXIO) return end;  // nothing but a hole is left
    return errno_status(errno, "lseek(SEEK_DATA) on a RAM file");
}

absl::Status for_each_data_extent(int fd, Bytes size, const std::function<void(PageRange)>& visit) {
    for (Bytes at = 0; at < size;) {
        GODWIT_ASSIGN_OR_RETURN(const Bytes data, find_data(fd, at, size));
        if (data == size) break;
        const off_t hole = ::lseek(fd, static_cast<off_t>(data), SEEK_HOLE);
        if (hole < 0) {
            if (errno == ENXIO) continue;  // punched between the two calls: look again
            return errno_status(errno, "lseek(SEEK_HOLE) on a RAM file");
        }
        at = std::min<Bytes>(static_cast<Bytes>(hole), size);
        visit({data / kPageBytes, (at + kPageBytes - 1) / kPageBytes});
    }
    return absl::OkStatus();
}

absl::Status read_fully(int fd, void* data, size_t size, Bytes offset) {
    auto* out = static_cast<std::byte*>(data);
    while (size > 0) {
        const ssize_t got = ::pread(fd, out, size, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_status(errno, "pread");
        if (got == 0) return absl::OutOfRangeError("pread: past the end of the file");
        out += got;
        offset += static_cast<Bytes>(got);
        size -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
}

absl::Status write_fully(int fd, const void* data, size_t size, Bytes offset) {
    const auto* in = static_cast<const std::byte*>(data);
    while (size > 0) {
        const ssize_t put = ::pwrite(fd, in, size, static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno_status(errno, "pwrite");
        in += put;
        offset += static_cast<Bytes>(put);
        size -= static_cast<size_t>(put);
    }
    return absl::OkStatus();
}

}  // namespace godwit
