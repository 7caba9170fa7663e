#include "tests/harness/disk_throttle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/base/mapping.h"
#include "engine/base/units.h"
#include "tests/harness/command.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

absl::Status write_line(const std::string& path, const std::string& line) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    if (::write(file.get(), line.data(), line.size()) < 0)
        return errno_status(errno, fmt::format("Cannot write \"{}\" to {}", line, path));
    return absl::OkStatus();
}

std::string first_word_of(const std::string& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

absl::Status check_o_direct(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    GODWIT_ASSIGN_OR_RETURN(const Mapping page, Mapping::anonymous(kPageBytes));
    if (file.valid() && ::pread(file.get(), page.data(), kPageBytes, 0) > 0)
        return absl::OkStatus();
    return errno_status(errno, fmt::format("No O_DIRECT on {}", path));
}

// MAJOR:MINOR of the whole disk, which is what the kernel throttles.
absl::StatusOr<std::string> disk_under(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return errno_status(errno, path);
    const std::string device = fmt::format("{}:{}", major(info.st_dev), minor(info.st_dev));
    const std::string entry = "/sys/dev/block/" + device;
    std::error_code ignored;
    if (!fs::exists(entry, ignored))
        return absl::UnavailableError(fmt::format("no disk is under {} ({})", path, device));
    if (!fs::exists(entry + "/partition", ignored)) return device;
    return first_word_of(fs::canonical(entry).parent_path().string() + "/dev");
}

bool lists(const std::string& path, const std::string& wanted) {
    std::ifstream file(path);
    for (std::istream_iterator<std::string> word(file), end; word != end; ++word)
        if (*word == wanted) return true;
    return false;
}

// Where a cgroup of ours can be made; empty when nowhere.
std::string parent_group() {
    std::error_code ignored;
    if (fs::exists("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device", ignored))
        return "/sys/fs/cgroup/blkio";
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
        if (lists(std::string(root) + "/cgroup.subtree_control", "io")) return root;
    return {};
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskThrottle>> DiskThrottle::create(const std::string& file,
                                                                   uint64_t read_bytes_per_s) {
    const auto unavailable = [](const absl::Status& status) {
        return absl::UnavailableError(status.message());
    };
    if (const absl::Status direct = check_o_direct(file); !direct.ok()) return unavailable(direct);
    const absl::StatusOr<std::string> disk = disk_under(file);
    if (!disk.ok()) return unavailable(disk.status());
    const std::string parent = parent_group();
    if (parent.empty())
        return absl::UnavailableError("no cgroup controls disks here (v1 blkio, v2 io)");
    const std::string group = fmt::format("{}/godwit-test-{}", parent, ::getpid());
    if (::mkdir(group.c_str(), 0755) != 0)
        return unavailable(errno_status(errno, "Cannot create the cgroup " + group));
    std::unique_ptr<DiskThrottle> throttle(new DiskThrottle(parent, group));
    std::error_code ignored;
    const std::string v2 = group + "/io.max";
    const absl::Status limited =
        fs::exists(v2, ignored) ? write_line(v2, fmt::format("{} rbps={}", *disk, read_bytes_per_s))
                                : write_line(group + "/blkio.throttle.read_bps_device",
                                             fmt::format("{} {}", *disk, read_bytes_per_s));
    if (!limited.ok()) return unavailable(limited);
    return throttle;
}

DiskThrottle::~DiskThrottle() {
    // What is being killed leaves the cgroup in its own time.
    const bool removed = eventually(std::chrono::seconds(10), [this] {
        std::ifstream members(group_ + "/cgroup.procs");
        for (std::istream_iterator<std::string> pid(members), end; pid != end; ++pid)
            write_line(parent_ + "/cgroup.procs", *pid).IgnoreError();
        return ::rmdir(group_.c_str()) == 0 || errno == ENOENT;
    });
    EXPECT_TRUE(removed) << group_ << " stays behind";
}

absl::Status DiskThrottle::add(pid_t pid) {
    return write_line(group_ + "/cgroup.procs", std::to_string(pid));
}

}  // namespace godwit::testing
