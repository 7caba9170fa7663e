#include "bench/micro/transport/samples.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/base/check.h"

namespace godwit::bench {
namespace {

using Random = std::mt19937_64;

Bytes set_bytes = Bytes{256} << 20;

void fill_noise(std::span<std::byte> bytes, Random& random) {
    for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
        const uint64_t value = random();
        std::memcpy(bytes.data() + i, &value, sizeof value);
    }
}

// A vocabulary of 4096 words of syllables; the n-th word is drawn about 1/n as often as the first.
void fill_text(std::span<std::byte> bytes, Random& random) {
    constexpr std::array kSyllables{"an", "ter", "mo", "ri",  "ta", "con", "de", "lu",
                                    "pe", "sto", "ni", "fra", "e",  "go",  "w",  "it"};
    std::vector<std::string> words(4096);
    for (std::string& word : words) {
        for (size_t i = 1 + random() % 4; i > 0; --i) word += kSyllables[random() % 16];
        word += random() % 12 == 0 ? ".\n" : " ";
    }
    for (size_t at = 0; at < bytes.size();) {
        const std::string& word = words[(uint64_t{1} << random() % 13) * (random() % 1024) / 1024];
        const size_t length = std::min(word.size(), bytes.size() - at);
        std::memcpy(bytes.data() + at, word.data(), length);
        at += length;
    }
}

void fill_deltas(std::span<std::byte> bytes, Random& random, bool scattered) {
    for (size_t page = 0; page < bytes.size(); page += kPageBytes) {
        const size_t place = random() % (kPageBytes - 64);
        for (size_t i = 0; i < 64; ++i)
            bytes[page + (scattered ? random() % kPageBytes : place + i)] =
                static_cast<std::byte>(random());
    }
}

Mapping make(Kind kind) {
    Mapping mapping = Mapping::anonymous(set_bytes).value();
    std::memset(mapping.data(), 0, mapping.size());  // there, not only promised
    Random random(1);
    switch (kind) {
        case Kind::kNoise:
            fill_noise(mapping.bytes(), random);
            break;
        case Kind::kText:
            fill_text(mapping.bytes(), random);
            break;
        case Kind::kZeros:
            break;
        case Kind::kDelta:
        case Kind::kScatter:
            fill_deltas(mapping.bytes(), random, kind == Kind::kScatter);
            break;
    }
    return mapping;
}

}  // namespace

const char* kind_name(Kind kind) {
    switch (kind) {
        case Kind::kNoise:
            return "noise";
        case Kind::kText:
            return "text";
        case Kind::kZeros:
            return "zeros";
        case Kind::kDelta:
            return "delta";
        case Kind::kScatter:
            return "scattered-delta";
    }
    return "";
}

Bytes bytes_of_sets() { return set_bytes; }
void set_bytes_of_sets(Bytes bytes) { set_bytes = bytes; }

std::span<std::byte> sample(Kind kind) {
    static std::map<Kind, Mapping> made;
    if (!made.contains(kind)) made.emplace(kind, make(kind));
    return made.at(kind).bytes();
}

std::span<std::byte> chunk_of(std::span<std::byte> set, size_t number) {
    return set.subspan(number * kChunkBytes % set.size(), kChunkBytes);
}

std::span<std::byte> far_chunk_of(std::span<std::byte> set, size_t number) {
    return chunk_of(set, number + set.size() / kChunkBytes / 2);
}

std::span<std::byte> staging(size_t number) {
    static const Mapping buffers = [] {
        Mapping made = Mapping::anonymous(2 * kChunkBytes).value();
        std::memset(made.data(), 1, made.size());
        return made;
    }();
    return buffers.bytes().subspan(number % 2 * kChunkBytes, kChunkBytes);
}

absl::StatusOr<UniqueFd> make_empty_ram_file(Backing backing) {
    UniqueFd file;
    if (backing == Backing::kHugetlb2M) {
        file.reset(::memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
        if (!file.valid()) return errno_status(errno, "memfd_create(MFD_HUGETLB)");
    } else {
        const UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
        if (!context.valid()) return errno_status(errno, "fsopen");
        const char* huge = backing == Backing::kTmpfsHuge ? "always" : "never";
        if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", huge, 0) != 0 ||
            ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
            return errno_status(errno, "fsconfig");
        const UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
        if (!mount.valid()) return errno_status(errno, "fsmount");
        file.reset(::openat(mount.get(), "ram", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (!file.valid()) return errno_status(errno, "openat");
    }
    if (::ftruncate(file.get(), static_cast<off_t>(set_bytes)) != 0)
        return errno_status(errno, "ftruncate");
    return file;
}

absl::StatusOr<RamFile> make_ram_file(bool huge_pages) {
    RamFile ram;
    GODWIT_ASSIGN_OR_RETURN(
        ram.file, make_empty_ram_file(huge_pages ? Backing::kTmpfsHuge : Backing::kTmpfs4k));
    GODWIT_RETURN_IF_ERROR(write_fully(ram.file.get(), sample(Kind::kNoise).data(), set_bytes, 0));
    GODWIT_ASSIGN_OR_RETURN(ram.map, Mapping::map_shared(ram.file.get(), set_bytes));
    volatile std::byte touched{};
    for (size_t page = 0; page < set_bytes; page += kPageBytes) touched = ram.map.data()[page];
    (void)touched;
    return ram;
}

}  // namespace godwit::bench
