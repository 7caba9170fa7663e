#include "dirty-tracking/resident/proc_maps.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/procmap_query.h"

namespace godwit::resident {
namespace {

// Everything in front of the path; longer paths are cut off.
constexpr size_t kLineBytes = 160;

bool parse(const char* text, MapsRegion& line) {
    char access[5] = {};
    unsigned major = 0;
    unsigned minor = 0;
    if (sscanf(text, "%lx-%lx %4s %lx %x:%x %lu", &line.begin, &line.end, access, &line.offset,
               &major, &minor, &line.inode) != 7)
        return false;
    line.device = makedev(major, minor);
    line.writable = access[1] == 'w';
    line.shared = access[3] == 's';
    return true;
}

bool continues(const MapsRegion& first, const MapsRegion& second) {
    return second.inode != 0 && second.begin == first.end && second.inode == first.inode &&
           second.device == first.device && second.shared == first.shared &&
           second.writable == first.writable &&
           second.offset == first.offset + (first.end - first.begin);
}

}  // namespace

MapsQuery::MapsQuery() : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}

MapsQuery::~MapsQuery() {
    if (fd_ >= 0) ::close(fd_);
}

MapsQuery::Answer MapsQuery::find(uint64_t address, uint64_t wanted_end, MapsRegion& region) const {
    const Answer answer = find_one(address, region);
    for (MapsRegion next; answer == Answer::kFound && region.end < wanted_end;
         region.end = next.end)
        if (find_one(region.end, next) != Answer::kFound || !continues(region, next)) break;
    return answer;
}

MapsQuery::Answer MapsQuery::find_one(uint64_t address, MapsRegion& region) const {
    ProcmapQuery query{};
    query.size = sizeof query;
    query.query_address = address;
    if (fd_ < 0 || next_ioctl(fd_, kProcmapQuery, &query) != 0)
        return fd_ >= 0 && errno == ENOENT ? Answer::kNothing : Answer::kUnknown;
    region = {.begin = query.begin,
              .end = query.end,
              .offset = query.offset,
              .device = makedev(query.device_major, query.device_minor),
              .inode = query.inode,
              .shared = (query.flags & kProcmapShared) != 0,
              .writable = (query.flags & kProcmapWritable) != 0};
    return Answer::kFound;
}

MapsReader::MapsReader() : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}

MapsReader::~MapsReader() {
    if (fd_ >= 0) ::close(fd_);
}

bool MapsReader::next(MapsRegion& region) {
    if (!has_ahead_ && !next_line(ahead_)) return false;
    region = ahead_;
    while ((has_ahead_ = next_line(ahead_)) && continues(region, ahead_)) region.end = ahead_.end;
    return true;
}

bool MapsReader::next_line(MapsRegion& line) {
    char text[kLineBytes];
    size_t length = 0;
    int character = next_character();
    if (character < 0) return false;
    for (; character >= 0 && character != '\n'; character = next_character())
        if (length + 1 < sizeof text) text[length++] = static_cast<char>(character);
    text[length] = 0;
    return parse(text, line);
}

int MapsReader::next_character() {
    if (fd_ < 0) return -1;
    if (at_ == filled_) {
        ssize_t got = 0;
        while ((got = ::read(fd_, buffer_, sizeof buffer_)) < 0 && errno == EINTR) {
        }
        if (got <= 0) return -1;
        at_ = 0;
        filled_ = static_cast<size_t>(got);
    }
    return static_cast<unsigned char>(buffer_[at_++]);
}

}  // namespace godwit::resident
