#include "engine/base/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

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

absl::StatusOr<Mapping> Mapping::read_shared(int fd, size_t size) {
    void* room = ::mmap(nullptr, size + kChunkBytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return errno_status(errno, "mmap of address space");
    auto* begin = static_cast<std::byte*>(room);
    const auto address = reinterpret_cast<uintptr_t>(begin);
    const size_t head = (kChunkBytes - address % kChunkBytes) % kChunkBytes;
    if (head > 0) ::munmap(begin, head);
    begin += head;
    ::munmap(begin + size, kChunkBytes - head);
    Mapping mapping(begin, size);
    if (::mmap(begin, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return errno_status(errno, "mmap of a shared file");
    return mapping;
}

absl::StatusOr<Mapping> Mapping::anonymous(size_t size) {
    const bool huge = size % kChunkBytes == 0;
    const size_t reserve = huge ? size + kChunkBytes : size;
    void* data =
        ::mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return errno_status(errno, "mmap of private memory");
    auto* begin = static_cast<std::byte*>(data);
    if (!huge) return Mapping(begin, size);
    const auto address = reinterpret_cast<uintptr_t>(begin);
    const size_t head = (kChunkBytes - address % kChunkBytes) % kChunkBytes;
    if (head > 0) ::munmap(begin, head);
    if (reserve - head > size) ::munmap(begin + head + size, reserve - head - size);
    ::madvise(begin + head, size, MADV_HUGEPAGE);  // a hint: without it the memory works as well
    return Mapping(begin + head, size);
}

void Mapping::unmap() {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = nullptr;
}

}  // namespace godwit
