// Preloaded into an agent under test (AgentSeams). It keeps, in $GODWIT_TEST_SEAMS/disk/MIGRATION,
// what a host that loses its power now finds of a migration's journal: the files that were synced,
// under the names that were. And it has the kernel refuse what the test says.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace {

namespace fs = std::filesystem;

const std::string& folder() {
    static const std::string named = [] {
        const char* value = std::getenv("GODWIT_TEST_SEAMS");
        return std::string(value == nullptr ? "" : value);
    }();
    return named;
}

// Its children are no agents.
[[gnu::constructor]] void begin() {
    folder();
    ::unsetenv("LD_PRELOAD");
}

std::string synced_content(ino_t inode) { return folder() + "/inode-" + std::to_string(inode); }

void note_synced(int fd) {
    struct stat file {};
    std::error_code error;
    const fs::path path = fs::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
    if (error || ::fstat(fd, &file) != 0) return;
    constexpr auto kReplace = fs::copy_options::overwrite_existing;
    if (S_ISREG(file.st_mode) && path.parent_path().parent_path().filename() == "migrations") {
        fs::copy_file(path, synced_content(file.st_ino), kReplace, error);
    } else if (S_ISDIR(file.st_mode) && path.parent_path().filename() == "migrations") {
        const fs::path disk = fs::path(folder()) / "disk" / path.filename();
        fs::create_directories(disk, error);
        for (const auto& entry : fs::directory_iterator(path, error)) {
            struct stat named {};
            if (::stat(entry.path().c_str(), &named) == 0)
                fs::copy_file(synced_content(named.st_ino), disk / entry.path().filename(),
                              kReplace, error);
        }
    }
}

}  // namespace

extern "C" int fsync(int fd) {
    const int result = static_cast<int>(::syscall(SYS_fsync, fd));
    const int error_number = errno;
    if (result == 0 && !folder().empty()) note_synced(fd);
    errno = error_number;
    return result;
}

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
    va_list list;
    va_start(list, request);
    void* argument = va_arg(list, void*);
    va_end(list);
    if (request == UFFDIO_UNREGISTER && !folder().empty() &&
        ::access((folder() + "/no-unregister").c_str(), F_OK) == 0) {
        errno = ENOMEM;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}
