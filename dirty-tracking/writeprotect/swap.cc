#include "dirty-tracking/writeprotect/swap.h"

#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

namespace godwit {
namespace {

// "<id> <parent> <major>:<minor> <root> <point> <options> [<tags>…] - <type> <source> <options>"
bool is_of_device(const std::string& line, dev_t device) {
    unsigned major = 0;
    unsigned minor = 0;
    return std::sscanf(line.c_str(), "%*d %*d %u:%u", &major, &minor) == 2 &&
           ::makedev(major, minor) == device;
}

bool has_option(const std::string& line, const std::string& wanted) {
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) return false;
    std::istringstream words(line.substr(separator + 3));
    std::string type;
    std::string source;
    std::string options;
    words >> type >> source >> options;
    return ("," + options + ",").find("," + wanted + ",") != std::string::npos;
}

}  // namespace

bool can_be_swapped(int file, dev_t device) {
    struct statfs file_system {};
    if (::fstatfs(file, &file_system) != 0) return true;
    if (file_system.f_type == HUGETLBFS_MAGIC) return false;
    if (file_system.f_type != TMPFS_MAGIC) return true;
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);)
        if (is_of_device(line, device)) return !has_option(line, "noswap");
    return true;
}

}  // namespace godwit
