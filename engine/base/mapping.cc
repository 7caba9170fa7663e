#include "engine/base/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/units.h"

namespace godwit {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        unmap();
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
    }
    return *this;
}

absl::StatusOr<Mapping> Mapping::map_shared(int fd, size_t size, off_t offset) {
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (data == MAP_FAILED) return errno_status(errno, "mmap of a shared file");
    return Mapping(static_cast<std::byte*>(data), size);
}

// `size` bytes of private memory that begin `before` bytes before a multiple of 2 MiB.
absl::StatusOr<Mapping> Mapping::reserve(size_t size, size_t before, int protection) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (protection == PROT_NONE ? MAP_NORESERVE : 0);
    void* room = ::mmap(nullptr, size + kChunkBytes, protection, flags, -1, 0);
    if (room == MAP_FAILED) return errno_status(errno, "mmap of private memory");
    auto* begin = static_cast<std::byte*>(room);
    const size_t past = (reinterpret_cast<uintptr_t>(begin) + before) % kChunkBytes;
    const size_t head = (kChunkBytes - past) % kChunkBytes;
    if (head > 0) ::munmap(begin, head);
    begin += head;
    ::munmap(begin + size, kChunkBytes - head);
    return Mapping(begin, size);
}

absl::StatusOr<Mapping> Mapping::read_shared(int fd, size_t size) {
    GODWIT_ASSIGN_OR_RETURN(Mapping mapping, reserve(size, 0, PROT_NONE));
    if (::mmap(mapping.data_, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return errno_status(errno, "mmap of a shared file");
    return mapping;
}

absl::StatusOr<Mapping> Mapping::anonymous_at(size_t size, size_t before) {
    GODWIT_ASSIGN_OR_RETURN(Mapping mapping, reserve(size, before, PROT_READ | PROT_WRITE));
    // A hint: without it the memory works as well.
    ::madvise(mapping.data_ + before, size - before, MADV_HUGEPAGE);
    return mapping;
}

absl::StatusOr<Mapping> Mapping::anonymous(size_t size) {
    if (size > 0 && size % kChunkBytes == 0) return anonymous_at(size, 0);
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return errno_status(errno, "mmap of private memory");
    return Mapping(static_cast<std::byte*>(data), size);
}

absl::StatusOr<Mapping> Mapping::anonymous_behind_page(size_t size) {
    GODWIT_CHECK(size > 0 && size % kChunkBytes == 0);
    return anonymous_at(kPageBytes + size, kPageBytes);
}

void Mapping::populate() const { ::madvise(data_, size_, MADV_POPULATE_WRITE); }

void Mapping::unmap() {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = nullptr;
}

}  // namespace godwit
