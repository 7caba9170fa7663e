// Huge pages for a test of hugetlbfs.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <fstream>
#include <string>

#include "engine/base/unique_fd.h"

namespace godwit {

// Reserves huge pages while it lives; one test of the machine at a time. Whatever uses them ends
// first: pages in use when the reservation goes are nobody's to give to the next one.
class ReservedHugePages {
  public:
    explicit ReservedHugePages(long count) : lock_(::open(kReserve, O_RDONLY | O_CLOEXEC)) {
        ::flock(lock_.get(), LOCK_EX);
        before_ = read(kReserve);
        long pool = before_ + count;
        set_pool(pool);
        // What somebody else still holds beyond its own reservation becomes part of this one.
        if (const long lacking = count - available(); lacking > 0) set_pool(pool += lacking);
        enough_ = available() >= count;
    }
    ~ReservedHugePages() { set_pool(before_); }
    ReservedHugePages(const ReservedHugePages&) = delete;
    ReservedHugePages& operator=(const ReservedHugePages&) = delete;
    [[nodiscard]] bool enough() const { return enough_; }

  private:
    static constexpr const char* kReserve = "/proc/sys/vm/nr_hugepages";
    static constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

    static long read(const std::string& path) {
        long count = 0;
        std::ifstream(path) >> count;
        return count;
    }
    static void set_pool(long count) { std::ofstream(kReserve) << count; }
    // Free, and promised to no mapping.
    static long available() {
        return read(std::string(kPool) + "free_hugepages") -
               read(std::string(kPool) + "resv_hugepages");
    }
    UniqueFd lock_;
    long before_ = 0;
    bool enough_ = false;
};

}  // namespace godwit
