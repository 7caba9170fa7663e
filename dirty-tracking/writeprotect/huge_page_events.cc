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

}  // namespace

absl::StatusOr<HugePageEvents> HugePageEvents::open() {
    HugePageEvents events;
    events.vmstat_.reset(::open(kVmstat, O_RDONLY | O_CLOEXEC));
    if (!events.vmstat_.valid()) return errno_status(errno, kVmstat);
    GODWIT_RETURN_IF_ERROR(events.count_vmstat().status());
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

absl::StatusOr<size_t> HugePageEvents::read(const UniqueFd& file, size_t offset) {
    const ssize_t got =
        ::pread(file.get(), &text_[offset], text_.size() - offset, static_cast<off_t>(offset));
    if (got < 0) return errno_status(errno, "counters of huge pages");
    return static_cast<size_t>(got);
}

// A read brings a page, for which the kernel adds up all counters anew: none but what is needed.
absl::StatusOr<uint64_t> HugePageEvents::count_vmstat() {
    uint64_t sum = 0;
    size_t found = 0;
    size_t line = 0;
    for (size_t size = 0; found < kLines.size();) {
        GODWIT_ASSIGN_OR_RETURN(const size_t got, read(vmstat_, size));
        if (got == 0) return absl::NotFoundError(fmt::format("{} counts no huge pages", kVmstat));
        size += got;
        const std::string_view text(text_.data(), size);
        for (size_t end = 0; (end = text.find('\n', line)) != std::string_view::npos;
             line = end + 1) {
            for (const std::string_view name : kLines) {
                if (text.substr(line, name.size()) != name) continue;
                sum += number_at(text.substr(line + name.size(), end - line - name.size()));
                ++found;
            }
        }
    }
    return sum;
}

absl::StatusOr<uint64_t> HugePageEvents::count() {
    GODWIT_ASSIGN_OR_RETURN(uint64_t sum, count_vmstat());
    for (const UniqueFd& file : by_size_) {
        GODWIT_ASSIGN_OR_RETURN(const size_t size, read(file, 0));
        sum += number_at({text_.data(), size});
    }
    return sum;
}

}  // namespace godwit
