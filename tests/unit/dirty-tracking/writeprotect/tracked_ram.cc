#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "dirty-tracking/writeprotect/write_protect_problems.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<TrackedRam>> TrackedRam::create(const std::string& type,
                                                               const std::string& options,
                                                               const std::vector<Bytes>& sizes) {
    GODWIT_ASSIGN_OR_RETURN(PrivateMount mount, PrivateMount::create(type, options));
    std::unique_ptr<TrackedRam> ram(new TrackedRam(std::move(mount)));
    GODWIT_ASSIGN_OR_RETURN(ram->writer, ChildProgram::start({GODWIT_RAM_WRITER}));
    if (ram->writer->read_line() != "ready") return absl::UnavailableError("no writer");
    const bool huge = options.find("huge=always") != std::string::npos;
    const Backing backing = type == "hugetlbfs" ? Backing::kHugetlb2M
                            : huge              ? Backing::kTmpfsHuge
                                                : Backing::kTmpfs4k;
    for (size_t i = 0; i < sizes.size(); ++i) {
        const std::string name = "ram" + std::to_string(i);
        const std::string path = ram->mount.path() + "/" + name;
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (::ftruncate(file.get(), static_cast<off_t>(sizes[i])) != 0)
            return errno_status(errno, "ftruncate");
        GODWIT_ASSIGN_OR_RETURN(RamBlock block, open_ram_block(name, path, backing));
        ram->blocks.push_back(std::move(block));
        if (ram->map_again(i, 0, sizes[i]) != "fine") return absl::UnavailableError("no view");
    }
    return ram;
}

PageSet TrackedRam::empty_set() const {
    PageSet set;
    for (const RamBlock& block : blocks) set.emplace_back(block.page_count());
    return set;
}

std::string TrackedRam::tell(const std::string& command, const Pages& pages) const {
    std::ostringstream line;
    line << command;
    for (const PageIndex page : pages) line << ' ' << page;
    return writer->ask(line.str());
}

std::string TrackedRam::map_again(size_t block, Bytes offset, Bytes size, const char* kind) {
    std::ostringstream line;
    line << "map " << blocks[block].path << ' ' << size << ' ' << offset << ' ' << kind;
    return writer->ask(line.str());
}

AddressRange TrackedRam::where(size_t view) const {
    AddressRange range;
    std::istringstream(tell("where", {view})) >> range.begin >> range.end;
    return range;
}

Pages TrackedRam::collect(UffdWriteProtectTracker& tracker, PageSet dirty, size_t block) {
    const absl::Status status = tracker.collect(dirty, dirty);
    EXPECT_TRUE(status.ok()) << status;
    Pages pages;
    dirty[block].for_each_run([&pages](PageRange run) {
        for (PageIndex page = run.begin; page < run.end; ++page) pages.insert(page);
    });
    return pages;
}

std::string why_no_tracking() {
    if (::geteuid() != 0) return "needs root for mounts and userfaultfd";
    const auto problems = write_protect_problems();
    return problems.empty() ? "" : problems.front();
}

}  // namespace godwit
