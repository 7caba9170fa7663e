// Stands for QEMU: maps RAM files and writes where it is told. Every answer is "fine" or a reason.
//   map <path> <bytes> <offset> shared|private   adds a view; views count from 0
//   write <view> <page>...                       one new word into each page
//   read <view> <page>...                        maps the pages without writing
//   punch <path> <page> <count>                  FALLOC_FL_PUNCH_HOLE
//   collapse <view>                              MADV_COLLAPSE: makes huge pages of small ones
//   apart <view>                                 MADV_NOHUGEPAGE: nothing more becomes huge
//   run <view> <seed> <page>...                  writes random words there until "halt", beside
//                                                what other views' writers do
//   halt
//   time <view> <first page> <count>             writes; answers with the nanoseconds it took
//   steal <view>                                 registers it with a userfaultfd of our own
//   where <view>                                 answers with its first address and its end
//   unmap                                        all views
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/units.h"

namespace {

using godwit::kPageBytes;

struct View {
    char* data = nullptr;
    size_t size = 0;
};

std::vector<View> g_views;
uint64_t g_counter = 0;
uint64_t g_sum = 0;

uint64_t next_random(uint64_t& state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

volatile uint64_t& word(size_t view, uint64_t page, size_t index) {
    return reinterpret_cast<volatile uint64_t*>(g_views[view].data + page * kPageBytes)[index];
}

std::string map(std::istream& in) {
    std::string path;
    std::string kind;
    size_t size = 0;
    off_t offset = 0;
    in >> path >> size >> offset >> kind;
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return "open failed";
    // 2 MiB aligned like QEMU's align=2M, so that huge pages can be mapped.
    constexpr size_t kAlign = godwit::kChunkBytes;
    auto* room = static_cast<char*>(::mmap(nullptr, size + 2 * kAlign, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    const auto address = reinterpret_cast<uintptr_t>(room);
    char* place = room + (kAlign - address % kAlign) % kAlign;
    const int flags = (kind == "private" ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED;
    void* data = ::mmap(place, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    ::close(fd);
    if (data == MAP_FAILED) return std::string("mmap failed: ") + std::strerror(errno);
    g_views.push_back({place, size});
    return "fine";
}

std::string punch(std::istream& in) {
    std::string path;
    off_t page = 0;
    off_t count = 0;
    in >> path >> page >> count;
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    constexpr auto kBytes = static_cast<off_t>(kPageBytes);
    const int result =
        ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * kBytes, count * kBytes);
    ::close(fd);
    return result == 0 ? "fine" : "fallocate failed";
}

class NeverStops {
  public:
    void start(size_t view, uint64_t seed, std::vector<uint64_t> pages) {
        stop_ = false;
        thread_ = std::thread([this, view, seed, pages = std::move(pages)] {
            uint64_t state = seed | 1;
            started_ = true;
            while (!stop_.load(std::memory_order_relaxed)) {
                const uint64_t random = next_random(state);
                word(view, pages[random % pages.size()], random >> 32 & 511) = random;
            }
        });
        while (!started_.exchange(false)) std::this_thread::yield();
    }
    void halt() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }

  private:
    std::atomic<bool> stop_{false};
    std::atomic<bool> started_{false};
    std::thread thread_;
};

std::array<NeverStops, 4> g_writers;  // by view

std::string collapse(const View& view) {
    constexpr int kMadviseCollapse = 25;
    if (::madvise(view.data, view.size, kMadviseCollapse) == 0) return "fine";
    return std::string("MADV_COLLAPSE: ") + std::strerror(errno);
}

std::string keep_apart(const View& view) {
    return ::madvise(view.data, view.size, MADV_NOHUGEPAGE) == 0 ? "fine" : "madvise failed";
}

std::string time_writes(size_t view, uint64_t first, uint64_t count) {
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t page = first; page < first + count; ++page) word(view, page, 0) = ++g_counter;
    const auto end = std::chrono::steady_clock::now();
    return std::to_string(
        std::chrono::duration_cast<std::chrono::nanoseconds>(end - begin).count());
}

std::string steal(const View& view) {
    const auto fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    uffdio_api api{.api = UFFD_API};
    if (fd < 0 || ::ioctl(fd, UFFDIO_API, &api) != 0) return "no userfaultfd";
    uffdio_register argument{
        .range = {.start = reinterpret_cast<uintptr_t>(view.data), .len = view.size},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (::ioctl(fd, UFFDIO_REGISTER, &argument) != 0) return "UFFDIO_REGISTER failed";
    return "fine";  // the descriptor stays open
}

std::string do_command(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "map") return map(in);
    if (command == "punch") return punch(in);
    if (command == "halt") {
        for (NeverStops& writer : g_writers) writer.halt();
        return "fine";
    }
    if (command == "unmap") {
        for (const View& view : g_views) ::munmap(view.data, view.size);
        g_views.clear();
        return "fine";
    }
    size_t view = 0;
    uint64_t seed = 0;
    in >> view;
    if (command == "run") in >> seed;
    std::vector<uint64_t> pages;
    for (uint64_t page = 0; in >> page;) pages.push_back(page);
    if (view >= g_views.size()) return "there is no such view";
    if (command == "write") {
        for (const uint64_t page : pages) word(view, page, page % 512) = ++g_counter;
    } else if (command == "read") {
        for (const uint64_t page : pages) g_sum += word(view, page, 0);
    } else if (command == "steal") {
        return steal(g_views[view]);
    } else if (command == "where") {
        const auto begin = reinterpret_cast<uintptr_t>(g_views[view].data);
        return std::to_string(begin) + " " + std::to_string(begin + g_views[view].size);
    } else if (command == "apart") {
        return keep_apart(g_views[view]);
    } else if (command == "collapse") {
        return collapse(g_views[view]);
    } else if (command == "run" && view < g_writers.size()) {
        g_writers[view].start(view, seed, std::move(pages));
    } else if (command == "time" && pages.size() == 2) {
        return time_writes(view, pages[0], pages[1]);
    } else {
        return "what?";
    }
    return "fine";
}

}  // namespace

int main() {
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << do_command(line) << std::endl;
    std::_Exit(0);
}
