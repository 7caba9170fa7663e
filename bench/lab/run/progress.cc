#include "bench/lab/run/progress.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace godwit {
namespace {

constexpr double kUnknownRun_s = 5;
constexpr int kBar = 20;

std::string span_text(double seconds) {
    const auto whole = static_cast<int64_t>(std::ceil(std::max(0.0, seconds)));
    if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string end_text(const ProgressState& state) {
    return fmt::format("{:%H:%M}",
                       fmt::localtime(state.now + static_cast<std::time_t>(state.left_s)));
}

int terminal_width(std::FILE* out) {
    winsize size{};
    return ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 100;
}

}  // namespace

void Durations::note(const std::string& scenario, const std::string& row, double seconds) {
    for (const std::string& key : {fmt::format("{}\n{}", scenario, row), scenario, std::string()}) {
        means_[key].sum_s += seconds;
        ++means_[key].count;
    }
}

double Durations::expected(const std::string& scenario, const std::string& row) const {
    for (const std::string& key : {fmt::format("{}\n{}", scenario, row), scenario, std::string()})
        if (const auto found = means_.find(key); found != means_.end())
            return found->second.sum_s / found->second.count;
    return kUnknownRun_s;
}

std::string progress_line(const ProgressState& state, int width) {
    const int filled = state.total > 0 ? kBar * state.done / state.total : 0;
    const std::string end =
        fmt::format("  {} left, ends {}", span_text(state.left_s), end_text(state));
    std::string line =
        fmt::format("[{:.<{}}] {:>3}/{}  {} ({})", std::string(static_cast<size_t>(filled), '#'),
                    kBar, state.done, state.total, state.what, state.which);
    const int room = std::max(0, width - static_cast<int>(end.size()));
    if (static_cast<int>(line.size()) > room) line.resize(static_cast<size_t>(room));
    return line + end;
}

std::string progress_note(const ProgressState& state) {
    return fmt::format(" ({}/{}, ends {})", state.done, state.total, end_text(state));
}

Progress::Progress(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) != 0) {}

void Progress::show(const ProgressState& state) {
    if (!terminal_) return;
    std::fprintf(out_, "\r\033[K%s", progress_line(state, terminal_width(out_) - 1).c_str());
    std::fflush(out_);
}

void Progress::result(const std::string& text) {
    std::fprintf(out_, "%s%s\n", terminal_ ? "\r\033[K" : "", text.c_str());
}

void Progress::result(const std::string& text, const ProgressState& state) {
    result(terminal_ ? text : text + progress_note(state));
}

void Progress::end() {
    if (terminal_) std::fprintf(out_, "\r\033[K");
}

}  // namespace godwit
