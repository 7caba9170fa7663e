#include "tests/e2e/linux_console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <sstream>

namespace godwit::testing {
namespace {

struct Line {
    std::string kind;  // "disk ok", or the whole line when it is none that is known
    bool known = false;
    uint64_t number = 0;
};

Line parse(const std::string& text) {
    for (const char* kind : {"tick", "disk ok", "mem ok", "net ok", "net lost"}) {
        const std::string head = std::string(kind) + " ";
        if (text.rfind(head, 0) != 0) continue;
        const std::string number = text.substr(head.size());
        if (!number.empty() && number.size() < 19 &&
            number.find_first_not_of("0123456789") == std::string::npos)
            return {kind, true, std::stoull(number)};
    }
    return {text};
}

// Whole lines; the guest may be in the middle of its last.
std::vector<std::string> whole_lines(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text.substr(0, text.rfind('\n') + 1));
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

}  // namespace

void LinuxConsole::follow(TestAgent& agent, const std::string& vm) {
    follow_file(fmt::format("{}/vms/{}/serial.log", agent.state_dir(), vm));
}

void LinuxConsole::follow_file(const std::string& path) {
    files_.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(files_.back().valid()) << path;
}

std::string LinuxConsole::text() const {
    std::string all;
    for (const UniqueFd& file : files_) {
        std::array<char, 65536> buffer;
        off_t at = 0;
        for (ssize_t got = 0; (got = ::pread(file.get(), buffer.data(), buffer.size(), at)) > 0;
             at += got)
            all.append(buffer.data(), static_cast<size_t>(got));
    }
    return all;
}

std::map<std::string, uint64_t> LinuxConsole::counts() const {
    std::map<std::string, uint64_t> counts;
    for (const std::string& text : whole_lines(text()))
        if (const Line line = parse(text); line.known) ++counts[line.kind];
    return counts;
}

std::vector<std::string> LinuxConsole::faults() const {
    std::vector<std::string> faults;
    std::map<std::string, uint64_t> next;  // by the first word: "net ok" and "net lost" share one
    for (const std::string& text : whole_lines(text())) {
        const Line line = parse(text);
        if (!line.known) {
            faults.push_back(text);
            continue;
        }
        uint64_t& expected = next[line.kind.substr(0, line.kind.find(' '))];
        if (line.number != expected) faults.push_back(fmt::format("{}, not {}", text, expected));
        expected = line.number + 1;
    }
    return faults;
}

}  // namespace godwit::testing
