#include "tests/harness/full_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/unique_fd.h"

namespace godwit::testing {

FullDisk::FullDisk(const std::string& directory) : path_(directory + "/filler") {
    const UniqueFd file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    struct statvfs disk {};
    EXPECT_EQ(::fstatvfs(file.get(), &disk), 0);
    // What others take meanwhile is not there to be taken.
    for (uint64_t blocks = disk.f_bavail; blocks > 0; blocks /= 2) {
        struct stat had {};
        ::fstat(file.get(), &had);
        while (::posix_fallocate(file.get(), had.st_size,
                                 static_cast<off_t>(blocks * disk.f_frsize)) == 0)
            ::fstat(file.get(), &had);
    }
}

FullDisk::~FullDisk() { ::unlink(path_.c_str()); }

}  // namespace godwit::testing
