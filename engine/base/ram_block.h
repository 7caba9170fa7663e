// RamBlock: one piece of guest RAM, backed by a shared named file that QEMU and the agent both use.
#pragma once

#include <sys/types.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"

namespace godwit {

enum class Backing { kTmpfsHuge, kTmpfs4k, kHugetlb2M };

struct RamBlock {
    std::string name;  // QEMU's memory backend id, the same on both sides
    std::string path;  // of the file on the agent's mount
    // Where a second link may go that outlives the VM: this and a suffix. Empty: beside the file.
    std::string kept_base;
    Bytes size = 0;  // a multiple of 2 MiB
    Backing backing = Backing::kTmpfsHuge;
    UniqueFd file;  // read and write
    dev_t device = 0;
    ino_t inode = 0;

    [[nodiscard]] uint64_t page_count() const { return size / kPageBytes; }
    [[nodiscard]] uint64_t chunk_count() const { return size / kChunkBytes; }
};

// What the block is, without its descriptor.
RamBlock without_file(const RamBlock& block);

// By block.
std::vector<uint64_t> chunk_counts(std::span<const RamBlock> blocks);

// Opens an existing RAM file. Errors: NotFound, PermissionDenied, InvalidArgument when its size is
// no multiple of 2 MiB.
absl::StatusOr<RamBlock> open_ram_block(std::string name, std::string path, Backing backing);

// Where the file's data begins at or after `begin`, or `end` if that is first. Costs little
// wherever it is asked. hugetlbfs calls everything data. Errors: lseek's.
absl::StatusOr<Bytes> find_data(int fd, Bytes begin, Bytes end);

// Calls visit for each allocated extent of the whole file, `size` bytes, ascending, widened to
// whole pages. For a part of a file use find_data: the end of an extent (SEEK_HOLE) is looked for
// page by page as far as the data goes, 33 ms/GiB on 4 KiB tmpfs. A hugetlbfs file is one extent.
// Errors: lseek's.
absl::Status for_each_data_extent(int fd, Bytes size, const std::function<void(PageRange)>& visit);

// Reads (writes) exactly `size` bytes at `offset`; past the end of the file is an error.
absl::Status read_fully(int fd, void* data, size_t size, Bytes offset);
absl::Status write_fully(int fd, const void* data, size_t size, Bytes offset);

}  // namespace godwit
