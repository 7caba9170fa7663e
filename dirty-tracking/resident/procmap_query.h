// PROCMAP_QUERY, by the kernel's documentation (Linux 6.11); Debian 12's headers are older. Nothing
// but the kernel's interface: the resident and the agent ask alike.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace godwit {

struct ProcmapQuery {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_address;
    uint64_t begin;
    uint64_t end;
    uint64_t flags;
    uint64_t page_size;
    uint64_t offset;
    uint64_t inode;
    uint32_t device_major;
    uint32_t device_minor;
    uint32_t name_size;
    uint32_t build_id_size;
    uint64_t name_address;
    uint64_t build_id_address;
};
static_assert(sizeof(ProcmapQuery) == 104);

inline constexpr unsigned long kProcmapQuery = _IOWR('f', 17, ProcmapQuery);
// Of `flags`.
inline constexpr uint64_t kProcmapWritable = 0x02;
inline constexpr uint64_t kProcmapShared = 0x08;
// Of `query_flags`.
inline constexpr uint64_t kProcmapThisOrNext = 0x10;
inline constexpr uint64_t kProcmapOfFile = 0x20;

}  // namespace godwit
