#include "engine/guest/qemu/log_trim.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/unique_fd.h"

namespace godwit {

void trim_log(const std::string& path) {
    const UniqueFd log(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat status {};
    if (!log.valid() || ::fstat(log.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
    const auto size = static_cast<Bytes>(status.st_size);
    if (size <= kMaxLogBytes) return;
    // In one step, and while QEMU writes: whole blocks of the file system.
    const auto block = static_cast<Bytes>(status.st_blksize);
    const Bytes cut = (size - kKeptLogBytes) / block * block;
    if (::fallocate(log.get(), FALLOC_FL_COLLAPSE_RANGE, 0, static_cast<off_t>(cut)) != 0)
        (void)!::ftruncate(log.get(), 0);
}

}  // namespace godwit
