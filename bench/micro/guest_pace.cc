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
#include <fstream>
#include <map>

#include "bench/guest/blackout_sampler.h"
#include "bench/guest/mailbox_reader.h"
#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/guest/qemu/qemu_hypervisor.h"

namespace godwit {
namespace {

constexpr const char* kQboot = "/usr/share/qemu/qboot.rom";
constexpr Duration kBootLimit = std::chrono::seconds(120);
constexpr Duration kKillLimit = std::chrono::seconds(10);

struct Flags {
    std::string memory = "1GiB";
    std::string append = "ws=256M rate=20000 pattern=random";
    double seconds = 3;
    double round_ms = 200;
    int repeats = 3;
};

struct Config {
    v1::MemoryBacking backing;
    const char* tracker;  // "none", "uffd-wp", "kvm-dirty-log"
    [[nodiscard]] std::string name() const {
        return fmt::format("{} {}", backing == v1::MEMORY_BACKING_4K ? "4k" : "thp", tracker);
    }
};

void pause_for(double seconds) {
    (void)wait_readable(-1, -1,
                        Clock::system().now() + std::chrono::duration_cast<Duration>(
                                                    std::chrono::duration<double>(seconds)));
}

struct Pace {
    double writes_per_s = 0;
    double longest_still_ms = 0;
};

// A guest, and how fast it writes.
class Guest {
  public:
    static absl::StatusOr<std::unique_ptr<Guest>> start(QemuHypervisor& hypervisor,
                                                        const Flags& flags, const Config& config,
                                                        const std::string& kernel) {
        v1::VmSpec spec;
        spec.set_name("pace");
        GODWIT_ASSIGN_OR_RETURN(const Bytes memory, parse_bytes(flags.memory));
        spec.set_memory_bytes(memory);
        spec.set_vcpus(1);
        spec.set_accel(v1::ACCEL_KVM);
        spec.set_memory_backing(config.backing);
        spec.set_kernel(kernel);
        spec.set_append(flags.append);
        // The trackers are compared as they would be used: without the resident for uffd-wp.
        spec.set_no_resident(std::string(config.tracker) != "kvm-dirty-log");
        if (std::filesystem::exists(kQboot)) spec.set_firmware(kQboot);
        auto guest = std::make_unique<Guest>(hypervisor);
        GODWIT_ASSIGN_OR_RETURN(guest->vm_, hypervisor.start(spec, StartMode::kRun));
        guest->ram_path_ = guest->vm_->ram_blocks()[0].path;
        const MonotonicTime deadline = Clock::system().now() + kBootLimit;
        while (Clock::system().now() < deadline) {
            const auto mailbox = guest->mailbox();
            if (mailbox.ok() && mailbox->state == static_cast<uint64_t>(GuestState::kRunning))
                return guest;
            pause_for(0.05);
        }
        return absl::DeadlineExceededError("the guest did not boot");
    }

    explicit Guest(QemuHypervisor& hypervisor) : hypervisor_(hypervisor) {}
    ~Guest() {
        if (!vm_) return;
        (void)vm_->kill(kKillLimit);
        (void)hypervisor_.forget(*vm_);
    }
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

    [[nodiscard]] Vm& vm() const { return *vm_; }

    // For so long; `meanwhile` is called again and again.
    absl::StatusOr<Pace> measure(double seconds, const std::function<absl::Status()>& meanwhile) {
        auto sampler = BlackoutSampler::start(
            {.source_path = ram_path_, .period = std::chrono::microseconds(200)});
        if (!sampler.ok()) return sampler.status();
        GODWIT_ASSIGN_OR_RETURN(const Mailbox before, mailbox());
        const MonotonicTime begin = Clock::system().now();
        const auto elapsed = [&] {
            return std::chrono::duration<double>(Clock::system().now() - begin).count();
        };
        while (elapsed() < seconds) GODWIT_RETURN_IF_ERROR(meanwhile());
        const double took = elapsed();
        GODWIT_ASSIGN_OR_RETURN(const Mailbox after, mailbox());
        const BlackoutReport report = sampler->stop();
        return Pace{static_cast<double>(after.vcpus[0].writes - before.vcpus[0].writes) / took,
                    static_cast<double>(report.longest_ns) / 1e6};
    }

  private:
    absl::StatusOr<Mailbox> mailbox() {
        GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, MailboxReader::open(ram_path_));
        return reader.read();
    }
    QemuHypervisor& hypervisor_;
    std::shared_ptr<Vm> vm_;
    std::string ram_path_;
};

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
    std::vector<double> before, during, after, collapsed, still_before, still_during;
    double collects = 0;
    double collect_ms = 0;
    double dirty_pages = 0;
};

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

absl::Status run_once(QemuHypervisor& hypervisor, const Flags& flags, const Config& config,
                      const std::string& kernel, Outcome& outcome) {
    GODWIT_ASSIGN_OR_RETURN(const auto guest, Guest::start(hypervisor, flags, config, kernel));
    const auto rest = [] {
        pause_for(0.05);
        return absl::OkStatus();
    };
    GODWIT_RETURN_IF_ERROR(guest->measure(1, rest).status());  // warm
    GODWIT_ASSIGN_OR_RETURN(const Pace before, guest->measure(flags.seconds, rest));
    outcome.before.push_back(before.writes_per_s);
    outcome.still_before.push_back(before.longest_still_ms);
    if (std::string(config.tracker) == "none") return absl::OkStatus();

    GODWIT_ASSIGN_OR_RETURN(const auto tracker, make_tracker(guest->vm(), config.tracker));
    PageSet dirty;
    for (const RamBlock& block : guest->vm().ram_blocks()) dirty.emplace_back(block.page_count());
    PageSet unsettled = dirty;
    GODWIT_RETURN_IF_ERROR(tracker->start());
    const auto round = [&]() -> absl::Status {
        pause_for(flags.round_ms / 1e3);
        clear_pages(dirty);
        clear_pages(unsettled);
        const MonotonicTime begin = Clock::system().now();
        GODWIT_RETURN_IF_ERROR(tracker->collect(dirty, unsettled));
        for (BlockIndex b = 0; b < dirty.size(); ++b)
            GODWIT_RETURN_IF_ERROR(tracker->rearm(b, {0, dirty[b].page_count()}));
        outcome.collect_ms += to_ms(Clock::system().now() - begin);
        outcome.dirty_pages += static_cast<double>(count_pages(dirty));
        ++outcome.collects;
        return absl::OkStatus();
    };
    GODWIT_ASSIGN_OR_RETURN(const Pace during, guest->measure(flags.seconds, round));
    outcome.during.push_back(during.writes_per_s);
    outcome.still_during.push_back(during.longest_still_ms);
    GODWIT_RETURN_IF_ERROR(tracker->stop());
    GODWIT_RETURN_IF_ERROR(guest->measure(0.5, rest).status());
    GODWIT_ASSIGN_OR_RETURN(const Pace after, guest->measure(flags.seconds, rest));
    outcome.after.push_back(after.writes_per_s);
    GODWIT_RETURN_IF_ERROR(collapse(guest->vm()));
    GODWIT_ASSIGN_OR_RETURN(const Pace collapsed, guest->measure(flags.seconds, rest));
    outcome.collapsed.push_back(collapsed.writes_per_s);
    return absl::OkStatus();
}

void print(const std::string& name, const Outcome& outcome, double reference) {
    const double before = median(outcome.before);
    const auto relative = [&](const std::vector<double>& values) {
        return values.empty() ? std::string("-")
                              : fmt::format("{:.1f} %", 100 * median(values) / before);
    };
    std::printf(
        "%s\n",
        fmt::format("{:<20} {:>12.0f} {:>8.1f} % {:>9} {:>9} {:>9} {:>9.2f} {:>9.2f} {:>9.3f} "
                    "{:>9.0f}",
                    name, before, 100 * before / reference, relative(outcome.during),
                    relative(outcome.after), relative(outcome.collapsed),
                    median(outcome.still_before), median(outcome.still_during),
                    outcome.collects > 0 ? outcome.collect_ms / outcome.collects : 0,
                    outcome.collects > 0 ? outcome.dirty_pages / outcome.collects : 0)
            .c_str());
}

int run(int argc, char** argv) {
    CLI::App app(
        "What dirty tracking costs the guest that is tracked.\n\n"
        "Example:\n  guest_pace_bench --memory 16GiB --append 'ws=12G rate=20000 pattern=random'");
    Flags flags;
    app.add_option("--memory", flags.memory, "Of the guest")->capture_default_str();
    app.add_option("--append", flags.append, "The guest's command line (bench/guest/README.md)")
        ->capture_default_str();
    app.add_option("--seconds", flags.seconds, "Length of a measurement")->capture_default_str();
    app.add_option("--round", flags.round_ms, "Milliseconds between two collects")
        ->capture_default_str();
    app.add_option("--repeats", flags.repeats, "Of every configuration")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    start_logging("guest_pace_bench", "error");

    const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    std::string state_dir = "/tmp/gw-pace-XXXXXX";
    if (::mkdtemp(state_dir.data()) == nullptr) return 1;
    constexpr std::array<Config, 6> kConfigs{{{v1::MEMORY_BACKING_THP, "none"},
                                              {v1::MEMORY_BACKING_THP, "uffd-wp"},
                                              {v1::MEMORY_BACKING_THP, "kvm-dirty-log"},
                                              {v1::MEMORY_BACKING_4K, "none"},
                                              {v1::MEMORY_BACKING_4K, "uffd-wp"},
                                              {v1::MEMORY_BACKING_4K, "kvm-dirty-log"}}};
    std::map<std::string, Outcome> outcomes;
    int exit_code = 0;
    {
        QemuHypervisor hypervisor(
            {.state_dir = state_dir, .resident_library = here / "libgodwit-resident.so"});
        for (int repeat = 0; repeat < flags.repeats && exit_code == 0; ++repeat)
            for (const Config& config : kConfigs) {
                const absl::Status status = run_once(hypervisor, flags, config, here / "guest.elf",
                                                     outcomes[config.name()]);
                if (status.ok()) continue;
                std::fprintf(stderr, "%s: %s\n", config.name().c_str(), status.ToString().c_str());
                exit_code = 1;
                break;
            }
    }
    std::printf("%s, %s, %d repeats, medians\n", flags.memory.c_str(), flags.append.c_str(),
                flags.repeats);
    std::printf("%-20s %12s %10s %9s %9s %9s %9s %9s %9s %9s\n", "memory, tracker", "writes/s",
                "of thp", "tracked", "after", "collapsed", "still ms", "tracked", "collect",
                "pages");
    for (const Config& config : kConfigs)
        print(config.name(), outcomes[config.name()], median(outcomes["thp none"].before));
    std::filesystem::remove_all(state_dir);
    return exit_code;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
