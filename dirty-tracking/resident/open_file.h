// A file that this process has open for reading and writing, found by its device and inode.
#pragma once

#include <cstdint>

namespace godwit::resident {

// A descriptor of our own for it, closed by the destructor; -1 when there is none.
class OpenFile {
  public:
    OpenFile(uint64_t device, uint64_t inode);
    ~OpenFile();
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    // Whether it is on tmpfs (a memfd too) or hugetlbfs.
    [[nodiscard]] bool is_memory() const;

  private:
    int fd_ = -1;
};

}  // namespace godwit::resident
