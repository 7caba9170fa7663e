// Stands for QEMU at the destination: maps RAM files and touches pages in threads of its own, which
// may have to wait for them. Every answer is "fine", what was asked for, or a reason.
//   map <path> <bytes>            adds a view; views count from 0
//   where <view>                  its first address and its end
//   touch <view> <page>...        a thread each, which reads the whole page; touches count from 0
//   done <touch>                  "yes" or "no"
//   content <touch>               waits; the seed that the content has, "zero", or "wrong"
//   check <view> <seed>           reads all pages; those that are wrong, but for a player's word
//   play <threads> <seed> <content seed> <accesses>
//                                 random reads and writes through all views; every page is checked
//                                 against its content and what the same thread wrote there
//   played                        waits; "fine" or what was wrong
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/units.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace {

using godwit::content_word;
using godwit::kPageBytes;
using godwit::kPageWords;

struct View {
    char* data = nullptr;
    size_t size = 0;
};

struct Touch {
    View view;
    uint64_t page = 0;
    std::array<uint64_t, kPageWords> words{};
    std::atomic<bool> done{false};
};

std::vector<View> g_views;
std::deque<Touch> g_touches;  // never moved

volatile uint64_t* page_at(const View& view, uint64_t page) {
    return reinterpret_cast<volatile uint64_t*>(view.data + page * kPageBytes);
}

// With a small stack: a test starts thousands.
bool start_thread(void* (*run)(void*), void* argument) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, size_t{64} << 10);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread{};
    const bool started = ::pthread_create(&thread, &attributes, run, argument) == 0;
    ::pthread_attr_destroy(&attributes);
    return started;
}

std::string map(std::istream& in) {
    std::string path;
    size_t size = 0;
    in >> path >> size;
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return "open failed";
    constexpr size_t kAlign = godwit::kChunkBytes;  // like QEMU's align=2M
    auto* room = static_cast<char*>(::mmap(nullptr, size + 2 * kAlign, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    const auto address = reinterpret_cast<uintptr_t>(room);
    char* place = room + (kAlign - address % kAlign) % kAlign;
    void* data = ::mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    ::close(fd);
    if (data == MAP_FAILED) return std::string("mmap failed: ") + std::strerror(errno);
    g_views.push_back({place, size});
    return "fine";
}

void* run_touch(void* argument) {
    auto& touch = *static_cast<Touch*>(argument);
    const volatile uint64_t* words = page_at(touch.view, touch.page);
    for (size_t i = 0; i < kPageWords; ++i) touch.words[i] = words[i];
    touch.done = true;
    touch.done.notify_all();
    return nullptr;
}

std::string touch(std::istream& in) {
    size_t view = 0;
    in >> view;
    for (uint64_t page = 0; in >> page;) {
        Touch& made = g_touches.emplace_back();
        made.view = g_views[view];
        made.page = page;
        if (!start_thread(run_touch, &made)) return "no thread";
    }
    return "fine";
}

std::string content(std::istream& in) {
    size_t index = 0;
    in >> index;
    Touch& touched = g_touches[index];
    touched.done.wait(false);
    constexpr uint64_t kSeeds = 64;
    bool zero = true;
    for (const uint64_t word : touched.words) zero &= word == 0;
    if (zero) return "zero";
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        bool same = true;
        for (size_t i = 0; i < kPageWords && same; ++i)
            same = touched.words[i] == content_word(seed, touched.page, i);
        if (same) return std::to_string(seed);
    }
    return "wrong";
}

constexpr size_t kPlayedWord = 3;

std::string check(std::istream& in) {
    size_t view = 0;
    uint64_t seed = 0;
    in >> view >> seed;
    std::ostringstream wrong;
    for (uint64_t page = 0; page < g_views[view].size / kPageBytes; ++page) {
        const volatile uint64_t* words = page_at(g_views[view], page);
        bool same = true;
        for (size_t i = 0; i < kPageWords && same; ++i)
            same = i == kPlayedWord || words[i] == content_word(seed, page, i);
        if (!same) wrong << ' ' << page;
    }
    return wrong.str().empty() ? "fine" : "wrong:" + wrong.str();
}

// One of the players: the pages with page % players == index are its own, so that it knows what
// they must hold: the content, but for one word, which it writes.
class Player {
  public:
    Player(size_t index, size_t players, uint64_t seed, uint64_t content_seed, uint64_t accesses)
        : content_seed_(content_seed),
          state_((seed + index) * 0x2545f4914f6cdd1du | 1),
          page_count_(g_views[0].size / kPageBytes),
          written_(page_count_) {
        thread_ = std::thread([this, index, players, accesses] {
            for (uint64_t i = 0; i < accesses && error_.empty(); ++i) {
                const uint64_t random = next();
                const uint64_t page = (random >> 8) % (page_count_ / players) * players + index;
                access(g_views[random % g_views.size()], page, (random & 16) != 0);
            }
        });
    }
    std::string finish() {
        thread_.join();
        return error_;
    }

  private:
    uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    void access(const View& view, uint64_t page, bool writes) {
        volatile uint64_t* words = page_at(view, page);
        if (writes) words[kPlayedWord] = written_[page] = next() | 1;
        for (size_t i = 0; i < kPageWords; ++i) {
            const bool own = i == kPlayedWord && written_[page] != 0;
            const uint64_t wanted = own ? written_[page] : content_word(content_seed_, page, i);
            if (words[i] == wanted) continue;
            error_ = "page " + std::to_string(page) + " word " + std::to_string(i) +
                     (own ? " lost a write" : " is wrong");
            return;
        }
    }

    uint64_t content_seed_;
    uint64_t state_;
    uint64_t page_count_;
    std::vector<uint64_t> written_;
    std::string error_;
    std::thread thread_;
};

std::deque<Player> g_players;

std::string play(std::istream& in) {
    size_t threads = 0;
    uint64_t seed = 0;
    uint64_t content_seed = 0;
    uint64_t accesses = 0;
    in >> threads >> seed >> content_seed >> accesses;
    for (size_t i = 0; i < threads; ++i)
        g_players.emplace_back(i, threads, seed, content_seed, accesses);
    return "fine";
}

std::string played() {
    std::string errors;
    for (Player& player : g_players) {
        const std::string error = player.finish();
        if (!error.empty()) errors += error + "; ";
    }
    g_players.clear();
    return errors.empty() ? "fine" : errors;
}

std::string do_command(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "map") return map(in);
    if (command == "touch") return touch(in);
    if (command == "content") return content(in);
    if (command == "check") return check(in);
    if (command == "play") return play(in);
    if (command == "played") return played();
    size_t index = 0;
    in >> index;
    if (command == "done") return g_touches[index].done ? "yes" : "no";
    if (command == "where") {
        const auto begin = reinterpret_cast<uintptr_t>(g_views[index].data);
        return std::to_string(begin) + " " + std::to_string(begin + g_views[index].size);
    }
    return "what?";
}

}  // namespace

int main() {
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << do_command(line) << std::endl;
    std::_Exit(0);
}
