// Huge pages for a test of hugetlbfs.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <fstream>

#include "engine/base/unique_fd.h"

namespace godwit {

// Reserves huge pages while it lives; one test of the machine at a time.
class ReservedHugePages {
  public:
    explicit ReservedHugePages(int count) : lock_(::open(kReserve, O_RDONLY | O_CLOEXEC)) {
        ::flock(lock_.get(), LOCK_EX);
        before_ = current();
        std::ofstream(kReserve) << before_ + count;
        enough_ = current() >= before_ + count;
    }
    ~ReservedHugePages() { std::ofstream(kReserve) << before_; }
    ReservedHugePages(const ReservedHugePages&) = delete;
    ReservedHugePages& operator=(const ReservedHugePages&) = delete;
    [[nodiscard]] bool enough() const { return enough_; }

  private:
    static constexpr const char* kReserve = "/proc/sys/vm/nr_hugepages";
    static int current() {
        int count = 0;
        std::ifstream(kReserve) >> count;
        return count;
    }
    UniqueFd lock_;
    int before_ = 0;
    bool enough_ = false;
};

}  // namespace godwit
