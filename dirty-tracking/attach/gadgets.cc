#include "dirty-tracking/attach/gadgets.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace godwit {
namespace {

struct CodeRange {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool c_library = false;
};

// QEMU's own text is about 10 MiB; what is longer is searched no further than this.
constexpr uint64_t kLongestSearch = uint64_t{64} << 20;
constexpr size_t kPiece = size_t{1} << 20;

constexpr std::array<uint8_t, 3> kSyscallReturn{0x0f, 0x05, 0xc3};
constexpr std::array<uint8_t, 9> kRestore{0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};

std::vector<CodeRange> code_ranges(pid_t pid) {
    std::vector<CodeRange> ranges;
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    for (std::string line; std::getline(maps, line);) {
        CodeRange range;
        std::array<char, 5> access{};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &range.begin, &range.end, access.data()) != 3)
            continue;
        if (access[0] != 'r' || access[2] != 'x') continue;
        if (line.find("[vsyscall]") != std::string::npos) continue;
        range.c_library =
            line.find("/libc.so") != std::string::npos || line.find("/libc-") != std::string::npos;
        ranges.push_back(range);
    }
    std::stable_sort(ranges.begin(), ranges.end(),
                     [](const auto& a, const auto& b) { return a.c_library > b.c_library; });
    return ranges;
}

template <size_t size>
void search(const std::vector<uint8_t>& code, uint64_t address,
            const std::array<uint8_t, size>& what, uint64_t& found) {
    if (found != 0) return;
    const auto at = std::search(code.begin(), code.end(), what.begin(), what.end());
    if (at != code.end()) found = address + static_cast<uint64_t>(at - code.begin());
}

void search_range(const CodeRange& range, int memory, std::vector<uint8_t>& code,
                  Gadgets& gadgets) {
    const uint64_t end = std::min(range.end, range.begin + kLongestSearch);
    for (uint64_t at = range.begin; at < end; at += kPiece) {
        // Pieces overlap by the length of the longer snippet.
        code.resize(std::min<uint64_t>(kPiece + kRestore.size(), range.end - at));
        const ssize_t got = ::pread(memory, code.data(), code.size(), static_cast<off_t>(at));
        if (got <= 0) return;
        code.resize(static_cast<size_t>(got));
        search(code, at, kSyscallReturn, gadgets.syscall_return);
        search(code, at, kRestore, gadgets.restore_registers);
        if (gadgets.syscall_return != 0 && gadgets.restore_registers != 0) return;
    }
}

}  // namespace

absl::StatusOr<Gadgets> find_gadgets(pid_t pid, int memory) {
    const std::vector<CodeRange> ranges = code_ranges(pid);
    if (ranges.empty()) {
        if (::access(fmt::format("/proc/{}", pid).c_str(), F_OK) != 0)
            return absl::NotFoundError(fmt::format("there is no process {}", pid));
        return absl::PermissionDeniedError(fmt::format("cannot read /proc/{}/maps", pid));
    }
    Gadgets gadgets;
    std::vector<uint8_t> code;
    for (const CodeRange& range : ranges) {
        search_range(range, memory, code, gadgets);
        if (gadgets.syscall_return != 0 && gadgets.restore_registers != 0) return gadgets;
    }
    return absl::FailedPreconditionError(
        fmt::format("process {} has no C library whose code we know", pid));
}

}  // namespace godwit
