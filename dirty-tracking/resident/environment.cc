#include "dirty-tracking/resident/environment.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "dirty-tracking/resident/protocol.h"

namespace godwit::resident {

// All of this runs in the library's constructor, before QEMU has a second thread.
// NOLINTBEGIN(concurrency-mt-unsafe)

namespace {

constexpr int kListenBacklog = 4;

bool option_is(int fd, int option, int wanted) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

bool is_ours(const char* entry, size_t length) {
    const size_t name = strlen(kLibraryName);
    if (length < name || strncmp(entry + length - name, kLibraryName, name) != 0) return false;
    return length == name || entry[length - name - 1] == '/';
}

// In place: the environment's own memory, whose entries only become shorter.
void remove_own_entry(char* list) {
    char* out = list;
    for (const char* at = list; *at != 0;) {
        const size_t length = strcspn(at, ": ");
        if (length != 0 && !is_ours(at, length)) {
            if (out != list) *out++ = ':';
            memmove(out, at, length);
            out += length;
        }
        at += length;
        if (*at != 0) ++at;
    }
    *out = 0;
}

}  // namespace

int inherited_listener() {
    const char* text = getenv(kSocketVariable);
    if (text == nullptr) return -1;
    char* end = nullptr;
    const long fd = strtol(text, &end, 10);
    if (end == text || *end != 0 || fd < 0 || fd > 1'000'000) return -1;
    const int listener = static_cast<int>(fd);
    if (!option_is(listener, SO_DOMAIN, AF_UNIX) || !option_is(listener, SO_TYPE, SOCK_SEQPACKET) ||
        !option_is(listener, SO_ACCEPTCONN, 1))
        return -1;
    if (::fcntl(listener, F_SETFD, FD_CLOEXEC) != 0) return -1;
    if (::fcntl(listener, F_SETFL, O_NONBLOCK) != 0) return -1;
    return listener;
}

int listener_at_path() {
    const char* path = getenv(kPathVariable);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    if (path == nullptr || *path != '/' || strlen(path) >= sizeof address.sun_path) return -1;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    struct stat old {};
    if (::lstat(path, &old) == 0 && S_ISSOCK(old.st_mode)) ::unlink(path);
    const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return -1;
    // bind() gives the name this mode: nobody else can connect at any moment.
    if (::fchmod(listener, 0600) == 0 &&
        ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        ::listen(listener, kListenBacklog) == 0)
        return listener;
    ::close(listener);
    return -1;
}

void hide_from_children() {
    unsetenv(kSocketVariable);
    unsetenv(kPathVariable);
    char* preload = getenv("LD_PRELOAD");
    if (preload == nullptr) return;
    remove_own_entry(preload);
    if (*preload == 0) unsetenv("LD_PRELOAD");
}

// NOLINTEND(concurrency-mt-unsafe)

}  // namespace godwit::resident
