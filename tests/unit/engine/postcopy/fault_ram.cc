#include "tests/unit/engine/postcopy/fault_ram.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "dirty-tracking/attach/attach.h"
#include "engine/base/wait.h"
#include "engine/postcopy/postcopy_problems.h"
#include "engine/postcopy/punch_stale.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace godwit {
namespace {

MonotonicTime in_20_s() { return Clock::system().now() + std::chrono::seconds(20); }

}  // namespace

ChunkMask all_pages() {
    ChunkMask mask;
    mask.fill(~uint64_t{0});
    return mask;
}

ChunkMask one_page(PageIndex page) { return some_pages({page}); }

ChunkMask some_pages(std::initializer_list<PageIndex> pages) {
    ChunkMask mask{};
    for (const PageIndex page : pages)
        mask[page % kPagesPerChunk / 64] |= uint64_t{1} << (page % 64);
    return mask;
}

absl::Status RecordingAsker::ask(BlockIndex block, PageIndex page) {
    const std::lock_guard lock(mutex_);
    if (broken_) return absl::UnavailableError("cut");
    requests_.push_back({block, page});
    changed_.notify_all();
    return absl::OkStatus();
}

std::vector<RecordingAsker::Request> RecordingAsker::wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, in_20_s(), [&] { return requests_.size() >= count; });
    return requests_;
}

std::vector<RecordingAsker::Request> RecordingAsker::requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
}

void RecordingAsker::break_connection() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
}

absl::StatusOr<std::unique_ptr<FaultRam>> FaultRam::create(const std::string& type,
                                                           const std::string& options, Bytes size,
                                                           int views) {
    GODWIT_ASSIGN_OR_RETURN(PrivateMount mount, PrivateMount::create(type, options));
    std::unique_ptr<FaultRam> ram(new FaultRam(std::move(mount)));
    const std::string path = ram->mount.path() + "/ram";
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return errno_status(errno, "ftruncate");
    const bool huge = options.find("huge=always") != std::string::npos;
    const Backing backing = type == "hugetlbfs" ? Backing::kHugetlb2M
                            : huge              ? Backing::kTmpfsHuge
                                                : Backing::kTmpfs4k;
    GODWIT_ASSIGN_OR_RETURN(RamBlock block, open_ram_block("ram", path, backing));
    ram->blocks.push_back(std::move(block));
    GODWIT_ASSIGN_OR_RETURN(ram->guest, ChildProgram::start({GODWIT_FAULT_GUEST}));
    if (ram->guest->read_line() != "ready") return absl::UnavailableError("no guest");
    for (int i = 0; i < views; ++i)
        if (ram->ask_guest("map " + path + " " + std::to_string(size)) != "fine")
            return absl::UnavailableError("no view");
    GODWIT_RETURN_IF_ERROR(ram->attach());
    GODWIT_RETURN_IF_ERROR(ram->memory->register_all());
    return ram;
}

absl::Status FaultRam::attach() {
    memory.reset();
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(guest->pid(), {}));
    GODWIT_ASSIGN_OR_RETURN(
        memory, FaultMemory::create(guest->pid(), blocks, std::move(attachment.userfaultfd)));
    return absl::OkStatus();
}

absl::StatusOr<MissingPages> FaultRam::make_missing() const {
    return MissingPages::create(missing_path(), blocks);
}

absl::StatusOr<MissingPages> FaultRam::open_missing() const {
    return MissingPages::open(missing_path(), blocks);
}

void FaultRam::write_content(uint64_t seed) const {
    std::array<std::byte, kPageBytes> page{};
    for (PageIndex i = 0; i < blocks[0].page_count(); ++i) {
        fill_content(seed, i, page);
        EXPECT_TRUE(
            write_fully(blocks[0].file.get(), page.data(), kPageBytes, i * kPageBytes).ok());
    }
}

std::vector<std::byte> FaultRam::content(uint64_t seed, ChunkIndex chunk, const ChunkMask& pages,
                                         ChunkMask& zero) const {
    std::vector<std::byte> bytes;
    zero = {};
    for (PageIndex page = 0; page < kPagesPerChunk; ++page) {
        if ((pages[page / 64] >> (page % 64) & 1) == 0) continue;
        const PageIndex index = chunk * kPagesPerChunk + page;
        if (content_word(seed, index, 0) == 0) {
            zero[page / 64] |= uint64_t{1} << (page % 64);
            continue;
        }
        bytes.resize(bytes.size() + kPageBytes);
        fill_content(seed, index, std::span(bytes).last<kPageBytes>());
    }
    return bytes;
}

absl::Status FaultRam::place(FaultServer& server, uint64_t seed, ChunkIndex chunk,
                             const ChunkMask& pages, PageOrigin origin) const {
    ChunkMask zero;
    const std::vector<std::byte> raw = content(seed, chunk, pages, zero);
    return server.place(0, chunk, pages, zero, raw, origin);
}

absl::Status FaultRam::make_stale(MissingPages& missing, ChunkIndex chunk,
                                  const ChunkMask& pages) const {
    missing.set(0, chunk, whole_granules(blocks[0], pages));
    PunchTotals totals;
    return punch_stale(blocks[0], chunk, pages, totals);
}

bool FaultRam::is_present(PageIndex page) const {
    const auto offset = static_cast<off_t>(page * kPageBytes);
    return ::lseek(blocks[0].file.get(), offset, SEEK_DATA) == offset;
}

absl::StatusOr<Fault> FaultRam::next_fault() const {
    GODWIT_RETURN_IF_ERROR(wait_readable(memory->fd(), -1, in_20_s()));
    std::array<Fault, 1> faults;
    GODWIT_ASSIGN_OR_RETURN(const size_t count, memory->read(faults));
    if (count != 1) return absl::UnavailableError("no event");
    return faults[0];
}

std::string why_no_faults() {
    if (::geteuid() != 0) return "needs root for mounts and userfaultfd";
    const auto problems = postcopy_problems();
    return problems.empty() ? "" : problems.front();
}

}  // namespace godwit
