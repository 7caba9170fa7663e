#include "tests/fault/leavings.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kLooseKinds = 8;
const std::set<std::string> kLoose = {"socket", "eventfd", "eventpoll", "timerfd"};

// Of a process that has just gone nothing can be read, which an iterator would throw.
std::string content_of(const std::string& path) {
    const std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string kind_of(const std::string& target) {
    if (target.rfind("anon_inode:", 0) == 0) {
        const size_t bracket = target.find('[');
        return bracket == std::string::npos
                   ? target.substr(11)
                   : target.substr(bracket + 1, target.size() - bracket - 2);
    }
    for (const char* kind : {"socket", "pipe", "net", "mnt"})
        if (target.rfind(std::string(kind) + ":[", 0) == 0) return kind;
    if (target.find("/ram-") != std::string::npos) return "ram file";
    if (target.rfind("/memfd:", 0) == 0) return target.substr(1, target.find(' ') - 1);
    // Names of directories, migrations and processes differ.
    std::string kind;
    for (const char letter : target.substr(target.rfind('/') + 1))
        if (letter < '0' || letter > '9') kind += letter;
    return kind;
}

void add_processes(const TestAgent& agent, size_t vms, std::vector<std::string>& found) {
    const std::vector<pid_t> qemus = agent.qemu_pids();
    if (qemus.size() != vms) found.push_back(fmt::format("{} QEMUs for {} VMs", qemus.size(), vms));
    std::set<std::string> known = {std::to_string(agent.pid())};
    for (const pid_t pid : qemus) known.insert(std::to_string(pid));
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
        const std::string words = content_of(entry.path().string() + "/cmdline");
        const std::string pid = entry.path().filename().string();
        if (words.find(agent.state_dir() + "/") == std::string::npos &&
            words.find(agent.state_dir() + '\0') == std::string::npos)
            continue;
        if (known.count(pid) == 0)
            found.push_back(fmt::format("process {}: {}", pid, words.c_str()));
    }
}

void add_mounts(const TestAgent& agent, std::vector<std::string>& found) {
    std::set<std::string> seen;
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream words(line);
        std::string skipped, point;
        words >> skipped >> skipped >> skipped >> skipped >> point;
        if (point.rfind(agent.state_dir(), 0) != 0) continue;
        const std::string below = point.substr(agent.state_dir().size());
        const bool of_the_agent = below.empty() || below.rfind("/ram-", 0) == 0;
        if (!of_the_agent || !seen.insert(point).second) found.push_back("mount " + point);
    }
}

void add_files(const TestAgent& agent, size_t vms, std::vector<std::string>& found) {
    std::error_code ignored;
    size_t directories = 0;
    for (const auto& entry : fs::directory_iterator(agent.state_dir() + "/vms", ignored))
        if (++directories > vms) found.push_back(entry.path().string());
    for (const auto& entry :
         fs::recursive_directory_iterator(agent.state_dir() + "/migrations", ignored))
        if (entry.is_socket(ignored)) found.push_back("socket " + entry.path().string());
    const std::vector<std::string> ram = agent.ram_files_on_disk();
    if (ram.size() != vms)
        for (const std::string& file : ram) found.push_back("RAM file " + file);
}

// A page that is mapped is nobody else's, whether or not its file has a name.
void add_mappings(const TestAgent& agent, size_t vms, std::vector<std::string>& found) {
    if (vms > 0) return;
    std::istringstream maps(content_of(fmt::format("/proc/{}/maps", agent.pid())));
    for (std::string line; std::getline(maps, line);)
        if (line.find("/ram-") != std::string::npos) found.push_back("mapping " + line);
}

}  // namespace

std::map<std::string, int> descriptors_of(pid_t pid) {
    std::map<std::string, int> kinds;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", pid), ignored)) {
        const fs::path target = fs::read_symlink(entry.path(), ignored);
        if (!target.empty()) ++kinds[kind_of(target.string())];
    }
    return kinds;
}

std::vector<std::string> leavings_of(const TestAgent& agent, size_t vms) {
    std::vector<std::string> found;
    add_processes(agent, vms, found);
    add_mounts(agent, found);
    add_files(agent, vms, found);
    add_mappings(agent, vms, found);
    return found;
}

std::vector<std::string> more_than(const std::map<std::string, int>& before,
                                   const std::map<std::string, int>& now) {
    std::vector<std::string> more;
    for (const auto& [kind, count] : now) {
        const auto was = before.find(kind);
        const int allowed =
            (was == before.end() ? 0 : was->second) + (kLoose.count(kind) > 0 ? kLooseKinds : 0);
        if (count > allowed) more.push_back(fmt::format("{} descriptors of {}", count, kind));
    }
    return more;
}

}  // namespace godwit::testing
