// Files of the state directory that a restarted agent maps: the missing pages of a drain and the
// decision word. An input is changes to a good file, or a file of its own.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "engine/handover/decision_word.h"
#include "engine/postcopy/missing_pages.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

std::array<RamBlock, 2>& blocks() {
    static std::array<RamBlock, 2> two = [] {
        std::array<RamBlock, 2> made;
        made[0].name = "ram0";
        made[0].size = 3 * kChunkBytes;
        made[1].name = "ram1";
        made[1].size = kChunkBytes;
        return made;
    }();
    return two;
}

// A file without a directory; the same one for every input.
struct File {
    UniqueFd fd{::memfd_create("fuzz", MFD_CLOEXEC)};
    std::string path = fmt::format("/proc/self/fd/{}", fd.get());

    void fill(std::span<const std::byte> bytes) const {
        GODWIT_CHECK(::ftruncate(fd.get(), 0) == 0);
        GODWIT_CHECK(::pwrite(fd.get(), bytes.data(), bytes.size(), 0) ==
                     static_cast<ssize_t>(bytes.size()));
    }
};

// As MissingPages::create() writes it.
const std::vector<std::byte>& good_missing() {
    static const std::vector<std::byte> good = [] {
        const std::string path = fmt::format("/dev/shm/godwit-fuzz-{}", ::getpid());
        GODWIT_CHECK(MissingPages::create(path, blocks()).ok());
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        std::vector<std::byte> bytes(size_t{1} << 20);
        const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
        GODWIT_CHECK(got > 0);
        ::unlink(path.c_str());
        bytes.resize(static_cast<size_t>(got));
        return bytes;
    }();
    return good;
}

void use(const MissingPages& missing) {
    uint64_t listed = 0;
    missing.for_each_chunk([&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        GODWIT_CHECK(block < blocks().size() && chunk < blocks()[block].chunk_count());
        listed += count_pages(pages);
    });
    GODWIT_CHECK(listed == missing.count());
    const MonotonicTime now{std::chrono::seconds(1000)};
    const FaultStats stats = missing.stats();
    (void)stats.total_stall(now);
    (void)stats.longest_stall(now);
}

void open_missing(const File& file, FuzzInputReader& input) {
    std::vector<std::byte> bytes = good_missing();
    while (!input.empty()) {
        const size_t at = input.u16() % bytes.size();
        const auto part = input.bytes(input.u8());
        std::copy_n(part.begin(), std::min(part.size(), bytes.size() - at), bytes.begin() + at);
    }
    file.fill(bytes);
    const auto missing = MissingPages::open(file.path, blocks());
    if (missing.ok()) use(*missing);
}

void open_word(const File& file, FuzzInputReader& input) {
    const auto bytes = input.bytes(16);
    file.fill(bytes);
    const auto word = DecisionWord::find(file.path);
    if (!word.ok()) return;
    GODWIT_CHECK(bytes.size() == 4 && word->read() <= Verdict::kAbort);
}

void open_bytes(const File& file, FuzzInputReader& input) {
    file.fill(input.rest());
    (void)MissingPages::open(file.path, blocks());
    (void)DecisionWord::find(file.path);
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    static const File file;
    FuzzInputReader input(data, size);
    switch (input.u8() % 4) {
        case 0:
            open_word(file, input);
            break;
        case 1:
            open_bytes(file, input);
            break;
        default:
            open_missing(file, input);
    }
    return 0;
}
