// Discards of guest RAM by QEMU (balloon, free-page reporting): they turn pages into zeros without
// a write that any tracker would see.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace godwit::resident {

// Makes the call. What it discarded of a logged file is marked, rounded out to 2 MiB: splitting a
// huge folio drops the neighbours' page table entries, and with them what the tracker of view B
// knows.
int discarding_fallocate(int fd, int mode, off_t offset, off_t length);
int discarding_madvise(void* address, size_t length, int advice);

// Under the lock: where the logged files are mapped, for madvise. False when there is no room.
bool find_log_mappings();

}  // namespace godwit::resident
