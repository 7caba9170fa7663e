#include "bench/lab/run/process_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr Duration kLookPeriod = std::chrono::milliseconds(50);
constexpr size_t kMaxProcesses = 256;

std::string text_of(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

// Not by what is free: the kernel's lists of pages for each CPU hold hundreds of MiB, used or not.
// What this process holds is WarmMemory, which goes to whoever takes it.
Bytes used_now() {
    const std::string text = text_of("/proc/meminfo");
    Bytes used = 0;
    for (const char* const what : {"AnonPages:", "Shmem:", "PageTables:", "Hugetlb:"})
        used += parse_kib_field(text, what);
    const Bytes held = parse_kib_field(text_of("/proc/self/status"), "RssAnon:");
    return used > held ? used - held : 0;
}

std::vector<pid_t> descendants() {
    std::vector<pid_t> all = children_of(::getpid());
    for (size_t i = 0; i < all.size() && all.size() < kMaxProcesses; ++i)
        for (const pid_t child : children_of(all[i])) all.push_back(child);
    return all;
}

}  // namespace

Bytes parse_kib_field(const std::string& text, const std::string& name) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream in(line);
        std::string word;
        Bytes kib = 0;
        if (in >> word >> kib && word == name) return kib << 10;
    }
    return 0;
}

std::string role_of(const std::string& arguments, bool there_before) {
    const std::string program = arguments.substr(0, arguments.find('\n'));
    const std::string name = program.substr(program.rfind('/') + 1);
    if (name == "godwitd") {
        const bool source = arguments.find("/a\n") != std::string::npos;
        return source ? "source-agent" : "destination-agent";
    }
    if (name == "godwit-guard") return "guard";
    if (name == "godwit") return "command";
    if (name.starts_with("qemu-system")) return there_before ? "source-qemu" : "destination-qemu";
    return name.empty() ? "other" : name;
}

absl::StatusOr<std::unique_ptr<ProcessWatch>> ProcessWatch::start() {
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopping, Wakeup::create());
    std::unique_ptr<ProcessWatch> watch(new ProcessWatch(std::move(stopping)));
    watch->used_before_ = watch->most_used_ = used_now();
    watch->look(true);
    watch->thread_ = std::jthread([raw = watch.get()] { raw->run(); });
    return watch;
}

ProcessWatch::~ProcessWatch() {
    if (thread_.joinable()) (void)stop();
}

void ProcessWatch::look(bool first) {
    most_used_ = std::max(most_used_, used_now());
    for (const pid_t pid : descendants()) {
        const auto cpu = cpu_of(pid);
        if (!cpu.ok()) continue;
        Seen& seen = seen_[pid];
        // A process is its wrapper first, and becomes what it is to be; one that ends has no words.
        const std::string arguments = process_command_line(pid);
        if (seen.role.empty() || (!first && !arguments.empty()))
            seen.role = role_of(arguments, first || seen.role == "source-qemu");
        if (first) seen.first_s = cpu->total();
        seen.last_s = cpu->total();
        seen.peak_anon =
            std::max(seen.peak_anon, parse_kib_field(read_process_file(pid, "status"), "RssAnon:"));
    }
}

void ProcessWatch::run() {
    set_thread_name("watch");
    while (absl::IsDeadlineExceeded(
        wait_readable(stopping_.fd(), -1, Clock::system().now() + kLookPeriod)))
        look(false);
}

Metrics ProcessWatch::stop() {
    stopping_.notify();
    thread_.join();
    look(false);
    Metrics metrics;
    for (const auto& [pid, seen] : seen_) {
        metrics["cpu_s." + seen.role] += seen.last_s - seen.first_s;
        metrics["peak_anon_bytes." + seen.role] += static_cast<double>(seen.peak_anon);
    }
    metrics["peak_memory_bytes"] = static_cast<double>(most_used_ - used_before_);
    return metrics;
}

}  // namespace godwit
