#include "bench/lab/provenance.h"

#include <sys/utsname.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "bench/lab/host_load.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr Duration kLimit = std::chrono::seconds(10);

std::string first_line_of(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string git_revision() {
    const auto git = find_program("git");
    if (!git.ok()) return "unknown";
    const auto revision = run_and_capture(
        {*git, "-C", GODWIT_SOURCE_DIR, "describe", "--always", "--dirty", "--abbrev=12"}, kLimit);
    return revision.ok() ? first_line_of(*revision) : "unknown";
}

std::string cpu_model() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown";
}

std::string line_of_file(const char* path) {
    std::ifstream in(path);
    std::string line;
    return std::getline(in, line) ? line : "unknown";
}

}  // namespace

std::string qemu_version_said(const std::string& output) {
    constexpr std::string_view kSame = "QEMU emulator version ";
    const std::string line = first_line_of(output);
    return line.starts_with(kSame) ? line.substr(kSame.size()) : line;
}

nlohmann::json provenance(const std::string& qemu) {
    utsname host{};
    ::uname(&host);
    const auto version = run_and_capture({qemu, "--version"}, kLimit);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return {{"git", git_revision()},
            {"kernel", host.release},
            {"cpu", cpu_model()},
            {"cpus", std::thread::hardware_concurrency()},
            {"qemu", version.ok() ? qemu_version_said(*version) : "unknown"},
            {"thp", line_of_file("/sys/kernel/mm/transparent_hugepage/enabled")},
            {"load", load_now()},
            {"unix_s", std::chrono::duration_cast<std::chrono::seconds>(now).count()}};
}

}  // namespace godwit
