#include "tests/harness/memory_limit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/base/unique_fd.h"
#include "tests/harness/command.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

absl::Status put(const std::string& path, const std::string& text) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    if (::write(file.get(), text.data(), text.size()) < 0)
        return errno_status(errno, fmt::format("Cannot write \"{}\" to {}", text, path));
    return absl::OkStatus();
}

// Where a cgroup that limits memory can be made; empty when nowhere.
std::string memory_root() {
    std::error_code ignored;
    if (fs::exists("/sys/fs/cgroup/memory/memory.limit_in_bytes", ignored))
        return "/sys/fs/cgroup/memory";
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        std::ifstream controllers(std::string(root) + "/cgroup.subtree_control");
        for (std::istream_iterator<std::string> word(controllers), end; word != end; ++word)
            if (*word == "memory") return root;
    }
    return {};
}

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryLimit>> MemoryLimit::create(Bytes limit) {
    static std::atomic<int> count{0};
    const std::string parent = memory_root();
    if (parent.empty())
        return absl::UnavailableError("no cgroup limits memory here (v1 or v2 memory)");
    const std::string group = fmt::format("{}/godwit-test-{}-{}", parent, ::getpid(), ++count);
    if (::mkdir(group.c_str(), 0755) != 0)
        return absl::UnavailableError(
            errno_status(errno, "Cannot create the cgroup " + group).message());
    std::unique_ptr<MemoryLimit> made(new MemoryLimit(parent, group));
    std::error_code ignored;
    const std::string v2 = group + "/memory.max";
    const absl::Status limited =
        put(fs::exists(v2, ignored) ? v2 : group + "/memory.limit_in_bytes", std::to_string(limit));
    if (!limited.ok()) return absl::UnavailableError(limited.message());
    // Where the host has swap, what is over the limit would go there.
    for (const char* none : {"/memory.swap.max", "/memory.swappiness"})
        if (fs::exists(group + none, ignored)) put(group + none, "0").IgnoreError();
    return made;
}

MemoryLimit::~MemoryLimit() {
    // What is being killed leaves the cgroup in its own time.
    const bool removed = eventually(std::chrono::seconds(10), [this] {
        std::ifstream members(group_ + "/cgroup.procs");
        for (std::istream_iterator<std::string> pid(members), end; pid != end; ++pid)
            put(parent_ + "/cgroup.procs", *pid).IgnoreError();
        return ::rmdir(group_.c_str()) == 0 || errno == ENOENT;
    });
    EXPECT_TRUE(removed) << group_ << " stays behind";
}

absl::Status MemoryLimit::add(pid_t pid) const {
    return put(group_ + "/cgroup.procs", std::to_string(pid));
}

}  // namespace godwit::testing
