// This process's own mappings, read without malloc.
#pragma once

#include <cstddef>
#include <cstdint>

namespace godwit::resident {

// Neighbours that continue one another in address, file and offset are one region: advice and
// userfaultfd split what was mapped as one.
struct MapsRegion {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
    uint64_t device = 0;
    uint64_t inode = 0;  // 0: no file
    bool shared = false;
    bool writable = false;
};

// Asks the kernel for single mappings (PROCMAP_QUERY, Linux 6.11). QEMU has hundreds, and its slots
// change while a guest is paused: reading them all took 0.2 ms for each slot.
class MapsQuery {
  public:
    enum class Answer { kFound, kNothing, kUnknown };  // kUnknown: this kernel can't be asked

    MapsQuery();
    ~MapsQuery();
    MapsQuery(const MapsQuery&) = delete;
    MapsQuery& operator=(const MapsQuery&) = delete;

    // The mapping with the address, and what continues it as far as `wanted_end`; what it continues
    // itself is not asked for.
    Answer find(uint64_t address, uint64_t wanted_end, MapsRegion& region) const;

  private:
    Answer find_one(uint64_t address, MapsRegion& region) const;

    int fd_;
};

// Reads /proc/self/maps from its beginning to its end.
class MapsReader {
  public:
    MapsReader();
    ~MapsReader();
    MapsReader(const MapsReader&) = delete;
    MapsReader& operator=(const MapsReader&) = delete;

    // The next region, ascending; false after the last, or when the file can't be read.
    bool next(MapsRegion& region);

  private:
    bool next_line(MapsRegion& line);
    int next_character();

    int fd_;
    char buffer_[4096];
    size_t at_ = 0;
    size_t filled_ = 0;
    MapsRegion ahead_;
    bool has_ahead_ = false;
};

}  // namespace godwit::resident
