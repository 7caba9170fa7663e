// Mapping: the one owner of an mmap()ed range.
#pragma once

#include <cstddef>
#include <span>

#include "engine/base/status.h"

namespace godwit {

class Mapping {
  public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() { unmap(); }

    // Maps `size` bytes of `fd` shared, read and write. Errors: mmap's.
    static absl::StatusOr<Mapping> map_shared(int fd, size_t size, off_t offset = 0);
    // Maps the first `size` bytes of `fd` shared, to be read only, 2 MiB aligned so that huge pages
    // are mapped as such. Errors: mmap's.
    static absl::StatusOr<Mapping> read_shared(int fd, size_t size);
    // Maps `size` bytes of zeroed private memory, 2 MiB aligned and marked for huge pages when the
    // size is a multiple of 2 MiB. Errors: mmap's.
    static absl::StatusOr<Mapping> anonymous(size_t size);
    // The same, `size` being a multiple of 2 MiB, with one small page before it. Errors: mmap's.
    static absl::StatusOr<Mapping> anonymous_behind_page(size_t size);

    // Has its memory allocated now and not as it is first written to. Kernels before 5.14 do so
    // later all the same.
    void populate() const;

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] size_t size() const { return size_; }
    [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }

  private:
    Mapping(std::byte* data, size_t size) : data_(data), size_(size) {}
    static absl::StatusOr<Mapping> reserve(size_t size, size_t before, int protection);
    static absl::StatusOr<Mapping> anonymous_at(size_t size, size_t before);
    void unmap();

    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace godwit
