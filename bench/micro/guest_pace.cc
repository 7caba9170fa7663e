// What tracking costs the guest: its own writes per second and its longest stillness, before, while
// and after it is tracked, on each kind of memory. Every configuration has a QEMU of its own; they
// take turns, so that a ratio comes from one run.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "bench/lab/statistics.h"
#include "bench/micro/paced_guest.h"
#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "engine/base/log.h"

namespace godwit {
namespace {

struct Flags {
    std::string memory = "1GiB";
    std::string append = "ws=256M rate=20000 pattern=random";
    double seconds = 3;
    double round_ms = 200;
    int repeats = 3;
    std::vector<std::string> only;
};

struct Config {
    const char* name;
    PacedMemory memory;
    const char* tracker;  // empty: none
};

constexpr std::array<Config, 7> kConfigs{{{"private", PacedMemory::kPrivate, ""},
                                          {"thp", PacedMemory::kThp, ""},
                                          {"thp,uffd-wp", PacedMemory::kThp, "uffd-wp"},
                                          {"thp,kvm-dirty-log", PacedMemory::kThp, "kvm-dirty-log"},
                                          {"4k", PacedMemory::k4k, ""},
                                          {"4k,uffd-wp", PacedMemory::k4k, "uffd-wp"},
                                          {"4k,kvm-dirty-log", PacedMemory::k4k, "kvm-dirty-log"}}};

absl::StatusOr<std::unique_ptr<DirtyTracker>> make_tracker(Vm& vm, const std::string& name) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<pid_t> vcpus, vm.vcpu_threads());
    std::unique_ptr<DirtyTracker> tracker;
    if (name == "uffd-wp") {
        GODWIT_ASSIGN_OR_RETURN(tracker,
                                UffdWriteProtectTracker::create(vm.pid(), vm.ram_blocks(), vcpus));
    } else {
        GODWIT_ASSIGN_OR_RETURN(tracker, KvmDirtyLogTracker::create(vm.pid(), vm.ram_blocks(),
                                                                    vcpus, vm.resident_socket()));
    }
    return tracker;
}

// Makes huge pages of what tracking left in small ones, in every mapping of the RAM file.
absl::Status collapse(Vm& vm) {
    constexpr int kMadviseCollapse = 25;  // Linux 6.1
    const RamBlock& block = vm.ram_blocks()[0];
    GODWIT_ASSIGN_OR_RETURN(
        const auto mappings,
        find_ram_mappings(vm.pid(), {block.name, block.device, block.inode, block.size}));
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, vm.pid(), 0)));
    for (const RamMapping& mapping : mappings)
        for (Bytes at = 0; at < mapping.length; at += kChunkBytes) {
            const iovec part{reinterpret_cast<void*>(mapping.address + at), kChunkBytes};
            // Chunks that hold no memory answer EINVAL or ENOMEM.
            (void)::syscall(SYS_process_madvise, process.get(), &part, 1, kMadviseCollapse, 0);
        }
    return absl::OkStatus();
}

struct Outcome {
    std::vector<double> before, during, after, collapsed;         // writes per second
    std::vector<double> still_before, still_during, still_armed;  // milliseconds
    std::vector<double> arm_ms, collect_ms, dirty_pages;
};

void append(std::vector<double>& to, const std::vector<double>& from) {
    to.insert(to.end(), from.begin(), from.end());
}

// One guest, from its start to its end.
class Run {
  public:
    Run(const Flags& flags, PacedGuest& guest, Outcome& outcome)
        : flags_(flags), guest_(guest), outcome_(outcome) {}

    absl::Status untracked() {
        GODWIT_RETURN_IF_ERROR(rest_for(1).status());  // warm
        GODWIT_ASSIGN_OR_RETURN(const Pace before, rest_for(flags_.seconds));
        outcome_.before.push_back(before.writes_per_s);
        append(outcome_.still_before, before.still_ms);
        return absl::OkStatus();
    }

    absl::Status tracked(const std::string& name) {
        Vm& vm = *guest_.vm();
        GODWIT_ASSIGN_OR_RETURN(const auto tracker, make_tracker(vm, name));
        for (const RamBlock& block : vm.ram_blocks()) dirty_.emplace_back(block.page_count());
        unsettled_ = dirty_;
        GODWIT_ASSIGN_OR_RETURN(
            const Pace during,
            guest_.measure(
                flags_.seconds, [&] { return arm(*tracker); }, [&] { return round(*tracker); }));
        outcome_.during.push_back(during.writes_per_s);
        append(outcome_.still_during, during.still_ms);
        outcome_.still_armed.push_back(during.still_in_first_ms);
        GODWIT_RETURN_IF_ERROR(tracker->stop());
        GODWIT_RETURN_IF_ERROR(rest_for(0.5).status());
        GODWIT_ASSIGN_OR_RETURN(const Pace after, rest_for(flags_.seconds));
        outcome_.after.push_back(after.writes_per_s);
        GODWIT_RETURN_IF_ERROR(collapse(vm));
        GODWIT_ASSIGN_OR_RETURN(const Pace collapsed, rest_for(flags_.seconds));
        outcome_.collapsed.push_back(collapsed.writes_per_s);
        return absl::OkStatus();
    }

  private:
    absl::StatusOr<Pace> rest_for(double seconds) {
        return guest_.measure(
            seconds, [] { return absl::OkStatus(); },
            [this] {
                pause_for(flags_.round_ms / 1e3);
                return absl::OkStatus();
            });
    }
    absl::Status arm(DirtyTracker& tracker) {
        const MonotonicTime begin = Clock::system().now();
        GODWIT_RETURN_IF_ERROR(tracker.start());
        outcome_.arm_ms.push_back(to_ms(Clock::system().now() - begin));
        return absl::OkStatus();
    }
    absl::Status round(DirtyTracker& tracker) {
        pause_for(flags_.round_ms / 1e3);
        clear_pages(dirty_);
        clear_pages(unsettled_);
        const MonotonicTime begin = Clock::system().now();
        GODWIT_RETURN_IF_ERROR(tracker.collect(dirty_, unsettled_));
        for (BlockIndex b = 0; b < dirty_.size(); ++b)
            GODWIT_RETURN_IF_ERROR(tracker.rearm(b, {0, dirty_[b].page_count()}));
        outcome_.collect_ms.push_back(to_ms(Clock::system().now() - begin));
        outcome_.dirty_pages.push_back(static_cast<double>(count_pages(dirty_)));
        return absl::OkStatus();
    }

    const Flags& flags_;
    PacedGuest& guest_;
    Outcome& outcome_;
    PageSet dirty_, unsettled_;
};

absl::Status run_once(QemuHypervisor& hypervisor, const Flags& flags, const Config& config,
                      const std::string& kernel, Outcome& outcome) {
    const std::string tracker = config.tracker;
    GODWIT_ASSIGN_OR_RETURN(const Bytes size, parse_bytes(flags.memory));
    // The trackers are compared as they would be used: without the resident for uffd-wp.
    GODWIT_ASSIGN_OR_RETURN(
        const auto guest, PacedGuest::start(hypervisor, {.memory = config.memory,
                                                         .size = size,
                                                         .append = flags.append,
                                                         .kernel = kernel,
                                                         .resident = tracker == "kvm-dirty-log"}));
    Run run(flags, *guest, outcome);
    GODWIT_RETURN_IF_ERROR(run.untracked());
    return tracker.empty() ? absl::OkStatus() : run.tracked(tracker);
}

std::string cell(std::optional<double> value, int decimals) {
    return value ? fmt::format("{:.{}f}", *value, decimals) : "-";
}

std::string percent(std::optional<double> value, std::optional<double> of) {
    const auto share = ratio(value, of);
    return share ? fmt::format("{:.1f} %", *share * 100) : "-";
}

void print_paces(const std::map<std::string, Outcome>& outcomes) {
    constexpr const char* kRow = "{:<18} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>7}\n";
    fmt::print(kRow, "", "writes/s", "of first", "tracked", "after", "collapsed", "arm ms",
               "round ms", "pages");
    std::optional<double> reference;
    for (const Config& config : kConfigs) {
        const auto found = outcomes.find(config.name);
        if (found == outcomes.end()) continue;
        const Outcome& outcome = found->second;
        const std::optional<double> before = median(outcome.before);
        if (!reference) reference = before;
        fmt::print(kRow, config.name, cell(before, 0), percent(before, reference),
                   percent(median(outcome.during), before), percent(median(outcome.after), before),
                   percent(median(outcome.collapsed), before), cell(median(outcome.arm_ms), 1),
                   cell(median(outcome.collect_ms), 3), cell(median(outcome.dirty_pages), 0));
    }
}

// A busy host stands in the way of some stretches, hardly of half of them.
void print_stillness(const Flags& flags, const std::map<std::string, Outcome>& outcomes) {
    constexpr const char* kRow = "{:<18} {:>9} {:>8} {:>8} {:>9} {:>8} {:>8} {:>9} {:>8} {:>8}\n";
    fmt::print("\nlongest stillness in each {} ms, in ms\n", flags.round_ms);
    fmt::print(kRow, "", "untracked", "90 %", "longest", "tracked", "90 %", "longest", "more 50 %",
               "90 %", "arming");
    for (const Config& config : kConfigs) {
        const auto found = outcomes.find(config.name);
        if (found == outcomes.end()) continue;
        const std::vector<double>& before = found->second.still_before;
        const std::vector<double>& during = found->second.still_during;
        const auto more = [&](double q) -> std::optional<double> {
            if (during.empty()) return std::nullopt;
            return *quantile(during, q) - *quantile(before, q);
        };
        fmt::print(kRow, config.name, cell(median(before), 2), cell(quantile(before, 0.9), 2),
                   cell(quantile(before, 1), 2), cell(median(during), 2),
                   cell(quantile(during, 0.9), 2), cell(quantile(during, 1), 2), cell(more(0.5), 2),
                   cell(more(0.9), 2), cell(median(found->second.still_armed), 2));
    }
}

bool is_wanted(const Flags& flags, const Config& config) {
    return flags.only.empty() ||
           std::find(flags.only.begin(), flags.only.end(), config.name) != flags.only.end();
}

int measure_all(const Flags& flags, const std::string& state_dir) {
    const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    QemuHypervisor hypervisor(
        {.state_dir = state_dir, .resident_library = here / "libgodwit-resident.so"});
    std::map<std::string, Outcome> outcomes;
    for (int repeat = 0; repeat < flags.repeats; ++repeat)
        for (const Config& config : kConfigs) {
            if (!is_wanted(flags, config)) continue;
            const absl::Status status =
                run_once(hypervisor, flags, config, here / "guest.elf", outcomes[config.name]);
            if (status.ok()) continue;
            fmt::print(stderr, "{}: {}\n", config.name, status.ToString());
            return 1;
        }
    fmt::print("{}, {}, {} repeats, medians\n", flags.memory, flags.append, flags.repeats);
    print_paces(outcomes);
    print_stillness(flags, outcomes);
    return 0;
}

int run(int argc, char** argv) {
    CLI::App app(
        "What dirty tracking costs the guest that is tracked, beside what it does on private "
        "memory.\n"
        "Stillness is the longest time without a sign of life; while it is tracked, arming "
        "counts.\n\n"
        "Example:\n  guest_pace_bench --memory 16GiB --append 'ws=12G rate=20000 pattern=random' "
        "--only private --only thp,kvm-dirty-log\n"
        "On a host that does other work: chrt -f 1 guest_pace_bench …");
    Flags flags;
    std::vector<std::string> names;
    names.reserve(std::size(kConfigs));
    for (const Config& config : kConfigs) names.emplace_back(config.name);
    app.add_option("--memory", flags.memory, "Of the guest")->capture_default_str();
    app.add_option("--append", flags.append, "The guest's command line (bench/guest/README.md)")
        ->capture_default_str();
    app.add_option("--seconds", flags.seconds, "Length of a measurement")->capture_default_str();
    app.add_option("--round", flags.round_ms, "Milliseconds between two collects")
        ->capture_default_str();
    app.add_option("--repeats", flags.repeats, "Of every configuration")->capture_default_str();
    app.add_option("--only", flags.only, "A configuration; may be given several times")
        ->check(CLI::IsMember(names));
    CLI11_PARSE(app, argc, argv);
    start_logging("guest_pace_bench", "error");

    std::string state_dir = "/tmp/gw-pace-XXXXXX";
    if (::mkdtemp(state_dir.data()) == nullptr) return 1;
    const int exit_code = measure_all(flags, state_dir);
    std::filesystem::remove_all(state_dir);
    return exit_code;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
