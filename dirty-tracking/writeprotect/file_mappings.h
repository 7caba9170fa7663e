// Which files a process maps, and where.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// [begin, end) shows the file from `offset` on.
struct FileMapping {
    uint64_t begin = 0;
    uint64_t end = 0;
    Bytes offset = 0;
    bool shared = false;
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileMapping&) const = default;
};

// All mappings of files, ascending in address: by the first way below, or the second where this
// kernel lacks the first. Errors of all three: NotFound (no such process, or it has ended);
// open's.
absl::StatusOr<std::vector<FileMapping>> file_mappings(pid_t pid);

// By PROCMAP_QUERY (Linux 6.11; <linux/fs.h>): 55 us for a QEMU's 257 mappings, where the text
// takes 160 (medians of 41, caches warm). Another error: Unimplemented on an older kernel.
absl::StatusOr<std::vector<FileMapping>> query_file_mappings(pid_t pid);
// From the text of /proc/PID/maps (proc(5)).
absl::StatusOr<std::vector<FileMapping>> read_file_mappings(pid_t pid);

}  // namespace godwit
