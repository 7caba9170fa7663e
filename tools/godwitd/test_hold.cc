#include "tools/godwitd/test_hold.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kLongestHold = std::chrono::seconds(60);

}  // namespace

TestHold::TestHold(std::string step, const std::string& state_dir)
    : step_(std::move(step)), state_dir_(state_dir) {
    std::error_code ignored;
    std::filesystem::remove(state_dir_ + "/held", ignored);  // of an agent that was killed
}

void TestHold::reached(std::string_view step) {
    if (step != step_ || held_.exchange(true)) return;
    const std::string path = state_dir_ + "/held";
    const UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (::inotify_add_watch(changes.get(), state_dir_.c_str(), IN_DELETE) < 0) return;
    spdlog::warn("held at {} until {} is removed", step, path);
    UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)).reset();
    const MonotonicTime deadline = Clock::system().now() + kLongestHold;
    while (::access(path.c_str(), F_OK) == 0 && wait_readable(changes.get(), -1, deadline).ok()) {
        std::array<char, 4096> events{};
        (void)!::read(changes.get(), events.data(), events.size());
    }
    spdlog::warn("let go at {}", step);
}

}  // namespace godwit
