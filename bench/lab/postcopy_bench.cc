// postcopy_bench: moves the same guest by every engine in turn, and prints how they compare.
#include <fmt/format.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "bench/lab/agent_pair.h"
#include "bench/lab/bench_options.h"
#include "bench/lab/host_load.h"
#include "bench/lab/interrupt.h"
#include "bench/lab/provenance.h"
#include "bench/lab/table.h"
#include "engine/base/log.h"
#include "engine/guest/qemu/kvm_probe.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kQboot = "/usr/share/qemu/qboot.rom";
constexpr int kInterrupted = 130;
constexpr Duration kIdlePatience = std::chrono::minutes(10);

// A directory that is gone afterwards, with the mounts for RAM in it.
class Scratch {
  public:
    explicit Scratch(const std::string& directory) {
        std::string pattern = directory + "/gw-lab-XXXXXX";
        if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
    }
    ~Scratch() {
        std::error_code error;
        if (!path_.empty()) fs::remove_all(path_, error);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

absl::Status complete(BenchOptions& options, const std::string& bin_dir) {
    GODWIT_ASSIGN_OR_RETURN(options.qemu, find_program(options.qemu));
    GuestConfig& guest = options.guest;
    guest.kvm = options.accel == "kvm" || (options.accel == "auto" && probe_kvm());
    guest.cpu = guest.kvm ? default_kvm_cpu() : "max";
    guest.kernel = bin_dir + "/guest.elf";
    if (fs::exists(kQboot)) guest.firmware = kQboot;
    if (!fs::exists(guest.kernel))
        return absl::NotFoundError(fmt::format("there is no {}: build it", guest.kernel));
    return absl::OkStatus();
}

json setting(const BenchOptions& options) {
    json line = provenance(options.qemu);
    line["kind"] = "setting";
    line["seed"] = options.guest.seed;
    line["guest_memory_bytes"] = options.guest.memory;
    line["append"] = guest_append(options.guest);
    line["accel"] = options.guest.kvm ? "kvm" : "tcg";
    line["bandwidth_bytes_per_s"] = options.bandwidth;
    line["downtime_limit_ms"] = to_ms(options.downtime_limit);
    line["repeats"] = options.repeats;
    line["sample_period_us"] = options.measure.sample_period.count();
    return line;
}

// JSON lines to wherever they were asked for.
class JsonLines {
  public:
    explicit JsonLines(const std::string& path) : to_stdout_(path == "-") {
        if (!path.empty() && !to_stdout_) file_.open(path, std::ios::trunc);
        failed_ = file_.fail();
    }
    [[nodiscard]] bool failed() const { return failed_; }
    void write(const json& line) {
        if (to_stdout_) std::cout << line.dump() << std::endl;
        if (file_.is_open()) file_ << line.dump() << std::endl;
    }

  private:
    bool to_stdout_;
    std::ofstream file_;
    bool failed_ = false;
};

class Bench {
  public:
    Bench(const BenchOptions& options, LabSetup setup, JsonLines& lines)
        : options_(options), setup_(std::move(setup)), lines_(lines) {
        for (const EngineName& engine : options.engines)
            results_.push_back({.engine = engine.text});
    }

    // False when it was interrupted.
    bool run_all() {
        for (int repeat = -options_.warm_up; repeat < options_.repeats; ++repeat)
            for (const size_t index :
                 shuffled(options_.engines.size(), options_.guest.seed, repeat)) {
                if (results_[index].missing) continue;
                if (!run_one(index, repeat)) return false;
            }
        return true;
    }
    [[nodiscard]] const std::vector<Results>& results() const { return results_; }

  private:
    bool run_one(size_t index, int repeat) {
        const std::string& name = options_.engines[index].text;
        const auto idle = wait_until_idle(options_.idle_percent, kIdlePatience, setup_.cancel_fd);
        if (absl::IsCancelled(idle.status())) return false;
        const double load = load_now();
        const auto metrics = move_once(options_.engines[index]);
        if (absl::IsCancelled(metrics.status())) return false;
        json line{{"kind", "run"}, {"engine", name}, {"repeat", repeat}, {"load", load}};
        if (idle.ok()) line["idle_percent_before"] = *idle;
        line["ok"] = metrics.ok();
        if (metrics.ok())
            line["metrics"] = *metrics;
        else
            line["error"] = metrics.status().ToString();
        if (repeat >= 0 || !metrics.ok()) lines_.write(line);
        std::fprintf(stderr, "%s %s: %s\n", repeat < 0 ? "warm-up" : "run", name.c_str(),
                     metrics.ok()
                         ? fmt::format("downtime {:.2f} ms, total {:.0f} ms",
                                       value(*metrics, "downtime_ms"), value(*metrics, "total_ms"))
                               .c_str()
                         : metrics.status().ToString().c_str());
        note(index, repeat, metrics);
        return true;
    }

    void note(size_t index, int repeat, const absl::StatusOr<Metrics>& metrics) {
        Results& results = results_[index];
        if (metrics.ok()) {
            if (repeat >= 0) results.runs.push_back(*metrics);
            return;
        }
        results.last_error = std::string(metrics.status().message());
        ++results.failed;
        results.missing = absl::IsUnimplemented(metrics.status());  // and is not tried again
    }

    absl::StatusOr<Metrics> move_once(const EngineName& name) {
        GODWIT_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, make_engine(name, setup_));
        return measure(*engine, options_.measure, setup_.cancel_fd);
    }

    static double value(const Metrics& metrics, const char* name) {
        const auto found = metrics.find(name);
        return found == metrics.end() ? 0 : found->second;
    }

    const BenchOptions& options_;
    const LabSetup setup_;
    JsonLines& lines_;
    std::vector<Results> results_;
};

int run(int argc, char** argv) {
    BenchOptions options;
    if (const auto code = parse_bench_options(argc, argv, options)) return *code;
    start_logging("postcopy_bench", "error");
    const auto fail = [](const absl::Status& status) {
        std::fprintf(stderr, "postcopy_bench: %s\n", std::string(status.message()).c_str());
        return 1;
    };
    const absl::StatusOr<Interrupt> interrupt = Interrupt::create();
    if (!interrupt.ok()) return fail(interrupt.status());
    const std::string bin_dir = fs::read_symlink("/proc/self/exe").parent_path().string();
    if (const absl::Status status = complete(options, bin_dir); !status.ok()) return fail(status);
    JsonLines lines(options.json_path);
    if (lines.failed())
        return fail(absl::NotFoundError(fmt::format("Cannot write {}", options.json_path)));

    const Scratch scratch(options.scratch);
    if (scratch.path().empty())
        return fail(
            errno_status(errno, fmt::format("Cannot create a directory in {}", options.scratch)));
    RamMounts mounts(scratch.path());
    AgentPair agents({.bin_dir = bin_dir,
                      .directory = scratch.path(),
                      .qemu = options.qemu,
                      .cancel_fd = interrupt->fd()});
    Bench bench(options,
                {.guest = options.guest,
                 .qemu = options.qemu,
                 .bandwidth = options.bandwidth,
                 .downtime_limit = options.downtime_limit,
                 .limit = options.limit,
                 .tracker = options.tracker,
                 .cancel_fd = interrupt->fd(),
                 .mounts = &mounts,
                 .agents = &agents},
                lines);
    const json line = setting(options);
    lines.write(line);
    const bool whole = bench.run_all();
    mounts.release_unused();
    if (options.json_path != "-")
        std::cout << fmt::format("{}\n{}\n{}", line.dump(), render_table(bench.results()),
                                 render_ratios(bench.results()))
                  << std::flush;
    if (!whole) return kInterrupted;
    for (const Results& results : bench.results())
        if (results.failed > 0 && !results.missing) return 1;
    return 0;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
