#include "dirty-tracking/writeprotect/huge_page_events.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>

namespace godwit {
namespace {

constexpr const char* kVmstat = "/proc/vmstat";
constexpr const char* kSizes = "/sys/kernel/mm/transparent_hugepage";
constexpr std::array<std::string_view, 4> kLines{"thp_collapse_alloc ",
                                                 "thp_collapse_alloc_failed ", "thp_split_page ",
                                                 "thp_split_page_failed "};

uint64_t number_at(std::string_view text) {
    uint64_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

uint64_t sum_of_lines(std::string_view text) {
    uint64_t sum = 0;
    while (!text.empty()) {
        for (const std::string_view name : kLines)
            if (text.substr(0, name.size()) == name) sum += number_at(text.substr(name.size()));
        const size_t end = text.find('\n');
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return sum;
}

}  // namespace

absl::StatusOr<HugePageEvents> HugePageEvents::open() {
    HugePageEvents events;
    events.vmstat_.reset(::open(kVmstat, O_RDONLY | O_CLOEXEC));
    if (!events.vmstat_.valid()) return errno_status(errno, kVmstat);
    GODWIT_ASSIGN_OR_RETURN(const std::string_view text, events.read(events.vmstat_));
    for (const std::string_view name : kLines)
        if (text.find(name) == std::string_view::npos)
            return absl::NotFoundError(fmt::format("{} has no {}", kVmstat, name));
    std::error_code error;
    for (const auto& size : std::filesystem::directory_iterator(kSizes, error)) {
        for (const char* name : {"split", "split_failed"}) {
            const std::string path = (size.path() / "stats" / name).string();
            UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
            if (file.valid()) events.by_size_.push_back(std::move(file));
        }
    }
    return events;
}

bool huge_mappings_stay_away() {
    utsname kernel{};
    int major = 0;
    int minor = 0;
    if (::uname(&kernel) != 0 || std::sscanf(kernel.release, "%d.%d", &major, &minor) != 2)
        return false;
    return major > 6 || (major == 6 && minor >= 12);
}

absl::StatusOr<std::string_view> HugePageEvents::read(const UniqueFd& file) {
    size_t size = 0;
    while (size < text_.size()) {
        const ssize_t got =
            ::pread(file.get(), &text_[size], text_.size() - size, static_cast<off_t>(size));
        if (got < 0) return errno_status(errno, "counters of huge pages");
        if (got == 0) break;
        size += static_cast<size_t>(got);
    }
    return std::string_view(text_.data(), size);
}

absl::StatusOr<uint64_t> HugePageEvents::count() {
    GODWIT_ASSIGN_OR_RETURN(const std::string_view vmstat, read(vmstat_));
    uint64_t sum = sum_of_lines(vmstat);
    for (const UniqueFd& file : by_size_) {
        GODWIT_ASSIGN_OR_RETURN(const std::string_view number, read(file));
        sum += number_at(number);
    }
    return sum;
}

}  // namespace godwit
