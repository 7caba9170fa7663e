#include "tests/unit/dirty-tracking/process/private_mount.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace godwit {
namespace {

// Once for the process: the namespace, and the mount table in it cut off from the host's.
absl::Status enter_private_namespace() {
    static const int error = [] {
        if (::unshare(CLONE_NEWNS) != 0) return errno;
        return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ? errno : 0;
    }();
    return error == 0 ? absl::OkStatus() : errno_status(error, "unshare(CLONE_NEWNS)");
}

}  // namespace

absl::StatusOr<PrivateMount> PrivateMount::create(const std::string& type,
                                                  const std::string& options) {
    GODWIT_RETURN_IF_ERROR(enter_private_namespace());
    std::string path = "/tmp/godwit-tracking-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return errno_status(errno, "mkdtemp");
    if (::mount("godwit-test", path.c_str(), type.c_str(), 0, options.c_str()) != 0) {
        const int error_number = errno;
        ::rmdir(path.c_str());
        return errno_status(error_number, "mount of " + type + " with " + options);
    }
    return PrivateMount(std::move(path));
}

PrivateMount::~PrivateMount() {
    if (path_.empty()) return;
    ::umount2(path_.c_str(), MNT_DETACH);
    ::rmdir(path_.c_str());
}

}  // namespace godwit
