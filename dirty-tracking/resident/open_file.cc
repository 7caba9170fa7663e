#include "dirty-tracking/resident/open_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>

namespace godwit::resident {
namespace {

// The head of what getdents64 writes; the name follows.
struct DirectoryEntry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[1];
};

// Without asking a server of the network: QEMU's disks may be on one that hangs.
bool is_file(int fd, uint64_t device, uint64_t inode) {
    struct statx status {};
    if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &status) != 0) return false;
    return makedev(status.stx_dev_major, status.stx_dev_minor) == device && status.stx_ino == inode;
}

// A duplicate, if `fd` is that file: QEMU may close its own at any time.
int duplicate_if(int fd, uint64_t device, uint64_t inode) {
    if (!is_file(fd, device, inode) || (::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR) return -1;
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0 || is_file(copy, device, inode)) return copy;
    ::close(copy);
    return -1;
}

int find(int directory, uint64_t device, uint64_t inode) {
    alignas(8) char buffer[2048];
    for (;;) {
        const long got = ::syscall(SYS_getdents64, directory, buffer, sizeof buffer);
        if (got <= 0) return -1;
        for (long at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
            at += entry->length;
            if (entry->name[0] == '.') continue;
            const int copy = duplicate_if(atoi(entry->name), device, inode);
            if (copy >= 0) return copy;
        }
    }
}

}  // namespace

OpenFile::OpenFile(uint64_t device, uint64_t inode) {
    const int directory = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;
    fd_ = find(directory, device, inode);
    ::close(directory);
}

OpenFile::~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
}

bool OpenFile::is_memory() const {
    struct statfs system {};
    if (fd_ < 0 || ::fstatfs(fd_, &system) != 0) return false;
    return system.f_type == TMPFS_MAGIC || system.f_type == HUGETLBFS_MAGIC;
}

}  // namespace godwit::resident
