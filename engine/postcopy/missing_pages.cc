#include "engine/postcopy/missing_pages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "engine/base/hash.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr std::array<char, 8> kMagic{'G', 'D', 'W', 'T', 'M', 'I', 'S', 'S'};
constexpr uint32_t kVersion = 1;

struct Head {
    std::array<char, 8> magic = kMagic;
    uint32_t version = kVersion;
    uint32_t block_count = 0;
    uint64_t shapes_checksum = 0;
    uint64_t checksum = 0;  // of everything before it
};
static_assert(sizeof(Head) == 32);

struct Shape {
    uint64_t page_count = 0;
    uint64_t backing = 0;
    uint64_t name_checksum = 0;
    bool operator==(const Shape&) const = default;
};
static_assert(sizeof(Shape) == 24);

constexpr size_t kShapesAt = 64;
constexpr size_t kStatsAt = 4096;
constexpr size_t kWordsAt = 16384;
static_assert(kShapesAt + MissingPages::kMaxBlocks * sizeof(Shape) <= kStatsAt);
static_assert(kStatsAt + sizeof(FaultStats) <= kWordsAt);

std::vector<Shape> shapes_of(std::span<const RamBlock> blocks) {
    std::vector<Shape> shapes;
    for (const RamBlock& block : blocks)
        shapes.push_back({.page_count = block.page_count(),
                          .backing = static_cast<uint64_t>(block.backing),
                          .name_checksum = checksum_bytes(std::as_bytes(std::span(block.name)))});
    return shapes;
}

Head head_of(std::span<const Shape> shapes) {
    Head head{.block_count = static_cast<uint32_t>(shapes.size()),
              .shapes_checksum = checksum_bytes(std::as_bytes(shapes))};
    head.checksum =
        checksum_bytes(std::as_bytes(std::span(&head, 1)).first(offsetof(Head, checksum)));
    return head;
}

size_t file_bytes(std::span<const RamBlock> blocks) {
    size_t bytes = kWordsAt;
    for (const RamBlock& block : blocks) bytes += block.chunk_count() * sizeof(ChunkMask);
    return bytes;
}

// What is wrong with the head, nullptr when nothing is.
const char* problem_of(const Mapping& mapping, std::span<const Shape> shapes) {
    Head head;
    std::memcpy(&head, mapping.data(), sizeof head);
    if (head.magic != kMagic) return "it is none of ours";
    const auto fixed = std::as_bytes(std::span(&head, 1)).first(offsetof(Head, checksum));
    if (head.checksum != checksum_bytes(fixed)) return "its head is damaged";
    if (head.version != kVersion) return "it is of another version";
    if (head.block_count != shapes.size()) return "it is of another number of RAM blocks";
    const auto found = mapping.bytes().subspan(kShapesAt, shapes.size_bytes());
    if (head.shapes_checksum != checksum_bytes(found)) return "its shapes are damaged";
    if (std::memcmp(found.data(), shapes.data(), found.size()) != 0)
        return "it is of other RAM blocks";
    return nullptr;
}

absl::Status check_count(std::span<const RamBlock> blocks) {
    if (blocks.size() <= MissingPages::kMaxBlocks) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format("{} RAM blocks; at most {} can be received",
                                                  blocks.size(), MissingPages::kMaxBlocks));
}

}  // namespace

MissingPages::MissingPages(Mapping mapping, std::span<const RamBlock> blocks)
    : mapping_(std::move(mapping)) {
    auto* word = reinterpret_cast<uint64_t*>(mapping_.data() + kWordsAt);
    uint64_t missing = 0;
    for (const RamBlock& block : blocks) {
        const size_t words = block.chunk_count() * kWordsPerChunk;
        words_.emplace_back(std::span(word, words));
        for (size_t i = 0; i < words; ++i)
            missing += static_cast<uint64_t>(std::popcount(words_.back().load(i)));
        word += words;
    }
    count_ = missing;
}

MissingPages::MissingPages(MissingPages&& other) noexcept
    : mapping_(std::move(other.mapping_)),
      words_(std::move(other.words_)),
      count_(other.count_.load()) {}

absl::StatusOr<MissingPages> MissingPages::create(const std::string& path,
                                                  std::span<const RamBlock> blocks) {
    GODWIT_RETURN_IF_ERROR(check_count(blocks));
    // Complete before it has its name: a successor never finds a half.
    const std::string unnamed = path + ".new";
    const size_t bytes = file_bytes(blocks);
    auto made = [&]() -> absl::StatusOr<Mapping> {
        const UniqueFd file(::open(unnamed.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!file.valid()) return errno_status(errno, "open");
        if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
            error != 0)
            return errno_status(error, fmt::format("posix_fallocate of {}", format_bytes(bytes)));
        GODWIT_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map_shared(file.get(), bytes));
        const std::vector<Shape> shapes = shapes_of(blocks);
        const Head head = head_of(shapes);
        std::memcpy(mapping.data() + kShapesAt, shapes.data(), shapes.size() * sizeof(Shape));
        std::memcpy(mapping.data(), &head, sizeof head);
        if (::rename(unnamed.c_str(), path.c_str()) != 0) return errno_status(errno, "rename");
        return mapping;
    }();
    if (made.ok()) return MissingPages(*std::move(made), blocks);
    ::unlink(unnamed.c_str());
    return annotate(made.status(), fmt::format("Cannot make {}", path));
}

absl::StatusOr<MissingPages> MissingPages::open(const std::string& path,
                                                std::span<const RamBlock> blocks) {
    GODWIT_RETURN_IF_ERROR(check_count(blocks));
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    struct stat info {};
    if (::fstat(file.get(), &info) != 0)
        return errno_status(errno, fmt::format("Cannot look at {}", path));
    const size_t bytes = file_bytes(blocks);
    if (static_cast<uint64_t>(info.st_size) != bytes)
        return absl::DataLossError(fmt::format("{} can't be used: it has {} bytes instead of {}",
                                               path, info.st_size, bytes));
    GODWIT_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map_shared(file.get(), bytes));
    if (const char* problem = problem_of(mapping, shapes_of(blocks)))
        return absl::DataLossError(fmt::format("{} can't be used: {}", path, problem));
    return MissingPages(std::move(mapping), blocks);
}

void MissingPages::set(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
    count_ += count_pages(pages);  // before: it is never too small
    uint64_t were_set = 0;
    for (size_t i = 0; i < pages.size(); ++i) {
        if (pages[i] == 0) continue;
        const uint64_t before = words_[block].set(chunk * kWordsPerChunk + i, pages[i]);
        were_set += static_cast<uint64_t>(std::popcount(before & pages[i]));
    }
    count_ -= were_set;
}

void MissingPages::clear(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
    for (size_t i = 0; i < pages.size(); ++i)
        if (pages[i] != 0) clear_word(block, chunk * kWordsPerChunk + i, pages[i]);
}

uint64_t MissingPages::clear_word(BlockIndex block, size_t word, uint64_t pages) {
    const uint64_t were_set = words_[block].clear(word, pages) & pages;
    count_ -= static_cast<uint64_t>(std::popcount(were_set));
    return were_set;
}

void MissingPages::for_each_chunk(
    const std::function<void(BlockIndex, ChunkIndex, const ChunkMask&)>& visit) const {
    for (BlockIndex block = 0; block < words_.size(); ++block) {
        for (ChunkIndex chunk = 0; chunk < chunk_count(block); ++chunk) {
            const ChunkMask pages = this->chunk(block, chunk);
            if (pages != ChunkMask{}) visit(block, chunk, pages);
        }
    }
}

FaultStats& MissingPages::stats() const {
    return *reinterpret_cast<FaultStats*>(mapping_.data() + kStatsAt);
}

}  // namespace godwit
