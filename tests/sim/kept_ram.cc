#include "tests/sim/kept_ram.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "engine/base/check.h"

namespace godwit::sim {

void KeptRam::keep_content(const Memory& memory) {
    if (!block_.file.valid()) {
        block_.file = UniqueFd(::memfd_create("ram", MFD_CLOEXEC));
        GODWIT_CHECK(::ftruncate(block_.file.get(), static_cast<off_t>(block_.size)) == 0);
    }
    for (int page = 0; page < kPages; ++page)
        GODWIT_CHECK(write_fully(block_.file.get(), &memory.at(page), sizeof(int),
                                 static_cast<Bytes>(page) * kPageBytes)
                         .ok());
}

int version_of(std::span<const std::byte> page) {
    int version = 0;
    std::memcpy(&version, page.data(), sizeof version);
    return version;
}

ChunkMask mask_of(int page) {
    ChunkMask mask{};
    mask[0] = uint64_t{1} << page;
    return mask;
}

}  // namespace godwit::sim
