#include "bench/guest/disk_image.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "bench/guest/disk_format.h"
#include "engine/base/ram_block.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr uint64_t kSectorsPerWrite = 2048;  // 1 MiB

void fill_sector(uint64_t* words, uint64_t seed, uint64_t sector, uint64_t sector_count) {
    if (sector != 0) {
        for (unsigned i = 0; i < kWordsPerSector; ++i) words[i] = disk_word(seed, sector, i);
        return;
    }
    std::fill_n(words, kWordsPerSector, 0);
    words[kDiskMagicWord] = kDiskMagic;
    words[kDiskSeedWord] = seed;
    words[kDiskSectorCountWord] = sector_count;
}

}  // namespace

absl::Status make_disk_image(const std::string& path, Bytes size, uint64_t seed) {
    if (size < 2 * kPageBytes || size % kPageBytes != 0)
        return absl::InvalidArgumentError(
            fmt::format("Cannot make a disk image of {} bytes: a multiple of 4096, at least 8192, "
                        "is needed",
                        size));
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.valid())
        return errno_status(errno, fmt::format("Cannot create the disk image {}", path));
    const uint64_t sector_count = size / kSectorBytes;
    std::vector<uint64_t> words(kSectorsPerWrite * kWordsPerSector);
    for (uint64_t begin = 0; begin < sector_count; begin += kSectorsPerWrite) {
        const uint64_t count = std::min(kSectorsPerWrite, sector_count - begin);
        for (uint64_t i = 0; i < count; ++i)
            fill_sector(&words[i * kWordsPerSector], seed, begin + i, sector_count);
        GODWIT_RETURN_IF_ERROR(annotate(
            write_fully(file.get(), words.data(), count * kSectorBytes, begin * kSectorBytes),
            fmt::format("Cannot write the disk image {}", path)));
    }
    return absl::OkStatus();
}

}  // namespace godwit
