#include "engine/guest/libvirt/domain_ram.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/guest/qemu/qmp_message.h"

namespace godwit {
namespace {

constexpr std::string_view kSettings =
    "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>";

bool has_prefix(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

// What is wrong with a backend, or empty.
std::string problem_of(const MemoryBackend& backend) {
    if (backend.type == "memory-backend-ram")
        return fmt::format("its RAM ({}) is private to QEMU: the domain needs {}", backend.id,
                           kSettings);
    if (backend.type != "memory-backend-file")
        return fmt::format(
            "its RAM ({}) is a {}, which has no name: the domain needs <source type='file'/>",
            backend.id, backend.type);
    if (!backend.is_shared)
        return fmt::format("its RAM ({}) is not shared: the domain needs <access mode='shared'/>",
                           backend.id);
    struct stat info {};
    if (::stat(backend.path.c_str(), &info) != 0)
        return fmt::format("its RAM file {} can't be seen by the agent: {}", backend.path,
                           std::string(errno_status(errno, "stat").message()));
    // A directory is where QEMU makes a file that it unlinks at once.
    if (!S_ISREG(info.st_mode))
        return fmt::format(
            "its RAM ({}) is a file without a name in {}: take out <hugepages/>, and set "
            "memory_backing_dir in /etc/libvirt/qemu.conf to a directory on hugetlbfs or tmpfs",
            backend.id, backend.path);
    struct statfs fs {};
    if (::statfs(backend.path.c_str(), &fs) != 0)
        return std::string(errno_status(errno, "statfs " + backend.path).message());
    if (fs.f_type == TMPFS_MAGIC) return {};
    if (fs.f_type == HUGETLBFS_MAGIC)
        return fs.f_bsize == static_cast<long>(kChunkBytes)
                   ? std::string()
                   : fmt::format("its RAM file {} has huge pages of {} bytes: Godwit moves 2 MiB",
                                 backend.path, fs.f_bsize);
    return fmt::format(
        "its RAM file {} is on a disk: set memory_backing_dir in /etc/libvirt/qemu.conf to a "
        "directory on tmpfs (mounted with huge=always) or hugetlbfs, restart libvirtd, and start "
        "the domain anew",
        backend.path);
}

absl::StatusOr<Backing> backing_of_file(const std::string& path) {
    struct statfs fs {};
    struct stat info {};
    if (::statfs(path.c_str(), &fs) != 0 || ::stat(path.c_str(), &info) != 0)
        return errno_status(errno, path);
    if (fs.f_type == HUGETLBFS_MAGIC) return Backing::kHugetlb2M;
    // tmpfs tells the size of its pages so.
    return info.st_blksize >= static_cast<blksize_t>(kChunkBytes) ? Backing::kTmpfsHuge
                                                                  : Backing::kTmpfs4k;
}

}  // namespace

std::vector<MemoryBackend> memory_backends(const std::vector<std::string>& argv) {
    std::vector<MemoryBackend> backends;
    for (size_t i = 0; i + 1 < argv.size(); ++i) {
        if (argv[i] != "-object") continue;
        const Json object = parse_json(argv[i + 1]);
        const std::string type = json_text(object, "qom-type");
        if (!has_prefix(type, "memory-backend-")) continue;
        const auto share = object.find("share");
        backends.push_back({.type = type,
                            .id = json_text(object, "id"),
                            .path = json_text(object, "mem-path"),
                            .is_shared = share != object.end() && *share == true});
    }
    return backends;
}

absl::StatusOr<std::vector<std::string>> arguments_of(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
    std::vector<std::string> arguments;
    for (std::string word; std::getline(file, word, '\0');) arguments.push_back(word);
    if (arguments.empty()) return absl::NotFoundError(fmt::format("process {} has ended", pid));
    return arguments;
}

absl::StatusOr<DomainRam> open_domain_ram(pid_t pid) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<std::string> argv, arguments_of(pid));
    DomainRam ram;
    const std::vector<MemoryBackend> backends = memory_backends(argv);
    if (backends.empty())
        ram.problems.push_back(
            fmt::format("its RAM is private to QEMU: the domain needs {}", kSettings));
    for (const MemoryBackend& backend : backends)
        if (std::string problem = problem_of(backend); !problem.empty())
            ram.problems.push_back(std::move(problem));
    if (!ram.problems.empty()) return ram;
    for (const MemoryBackend& backend : backends) {
        GODWIT_ASSIGN_OR_RETURN(const Backing backing, backing_of_file(backend.path));
        GODWIT_ASSIGN_OR_RETURN(RamBlock block, open_ram_block(backend.id, backend.path, backing));
        const std::filesystem::path directory = std::filesystem::path(backend.path).parent_path();
        block.kept_base = fmt::format("{}/.godwit-{}-{}", directory.parent_path().string(),
                                      directory.filename().string(), backend.id);
        ram.blocks.push_back(std::move(block));
    }
    return ram;
}

}  // namespace godwit
