#include "bench/lab/bench_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>

namespace godwit {
namespace {

constexpr const char* kAbout =
    "Pauses and stalls of a guest that moves: Godwit, QEMU's own migration and the floor that "
    "stock "
    "QEMU sets, side by side in one interleaved run.\n\n"
    "Example:\n  postcopy_bench --engines floor,qemu,godwit-postcopy --ws 256M --repeats 10 --json "
    "runs.jsonl\n\n"
    "Engines: floor; qemu-{precopy,multifd,postcopy,preempt}, with -shared for RAM in a shared "
    "file\n"
    "and @N for N passes of pre-copy before a post-copy; godwit-STRATEGY. Groups: qemu, "
    "qemu-shared,\n"
    "godwit, all. What the figures are: bench/lab/README.md.";

struct Words {
    std::string engines = "all";
    std::string memory = "1GiB";
    std::string working_set = "256MiB";
    std::string bandwidth;
    std::string downtime_limit = "300ms";
    std::string limit = "60s";
    std::string baseline = "500ms";
};

void add_options(CLI::App& app, Words& words, BenchOptions& options) {
    app.add_option("--engines", words.engines, "What to compare")->capture_default_str();
    app.add_option("--guest-memory", words.memory)->capture_default_str();
    app.add_option("--ws", words.working_set, "The guest's working set, written at random")
        ->capture_default_str();
    app.add_option("--rate", options.guest.writes_per_s, "Pages it writes per second; 0: flat out")
        ->capture_default_str();
    app.add_option("--accel", options.accel)
        ->check(CLI::IsMember({"auto", "kvm", "tcg"}))
        ->capture_default_str();
    app.add_option("--repeats", options.repeats, "Of every engine")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--warm-up", options.warm_up, "Repeats before those that count")
        ->check(CLI::Range(0, 10))
        ->capture_default_str();
    app.add_option("--wait-idle", options.idle_percent,
                   "Begin a run only when the CPUs were so many percent idle; 0: at once")
        ->check(CLI::Range(0, 99))
        ->capture_default_str();
    app.add_option("--bandwidth", words.bandwidth,
                   "Limit for all engines alike, as 1Gbit or 100MiB/s");
    app.add_option("--downtime-limit", words.downtime_limit, "For pre-copy, of all engines alike")
        ->capture_default_str();
    app.add_option("--limit", words.limit, "What does not end within this has failed")
        ->capture_default_str();
    app.add_option("--baseline", words.baseline, "The guest is watched so long before it is moved")
        ->capture_default_str();
    app.add_option("--tracker", options.tracker, "Godwit's: auto, uffd-wp, kvm-dirty-log")
        ->capture_default_str();
    app.add_option("--qemu", options.qemu, "The QEMU of all engines")->capture_default_str();
    app.add_option("--seed", options.guest.seed, "Of the guest's writes and of the order of runs")
        ->capture_default_str();
    app.add_option("--scratch", options.scratch, "A directory for what is needed meanwhile")
        ->capture_default_str();
    app.add_option("--json", options.json_path,
                   "File for JSON lines: the setting, then one for each run; -: stdout");
}

absl::Status read_words(const Words& words, BenchOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(options.engines, parse_engines(words.engines));
    GODWIT_ASSIGN_OR_RETURN(options.guest.memory, parse_bytes(words.memory));
    GODWIT_ASSIGN_OR_RETURN(options.guest.working_set, parse_bytes(words.working_set));
    if (options.guest.memory == 0 || options.guest.memory % kChunkBytes != 0)
        return absl::InvalidArgumentError("--guest-memory must be a multiple of 2 MiB");
    if (options.guest.working_set == 0 || options.guest.working_set % kPageBytes != 0)
        return absl::InvalidArgumentError("--ws must be whole pages");
    if (!words.bandwidth.empty()) {
        GODWIT_ASSIGN_OR_RETURN(options.bandwidth, parse_rate(words.bandwidth));
    }
    GODWIT_ASSIGN_OR_RETURN(options.downtime_limit, parse_duration(words.downtime_limit));
    GODWIT_ASSIGN_OR_RETURN(options.limit, parse_duration(words.limit));
    GODWIT_ASSIGN_OR_RETURN(options.measure.baseline, parse_duration(words.baseline));
    return absl::OkStatus();
}

}  // namespace

std::optional<int> parse_bench_options(int argc, char** argv, BenchOptions& options) {
    CLI::App app(kAbout);
    Words words;
    options.accel = "auto";
    options.tracker = "auto";
    options.qemu = "qemu-system-x86_64";
    add_options(app, words, options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    const absl::Status status = read_words(words, options);
    if (status.ok()) return std::nullopt;
    std::fprintf(stderr, "postcopy_bench: %s\n", std::string(status.message()).c_str());
    return 2;
}

std::vector<size_t> shuffled(size_t count, uint64_t seed, int repeat) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(repeat)};
    std::mt19937_64 random(sequence);
    // By hand: what std::shuffle does with the same numbers is each library's own affair.
    for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    return order;
}

}  // namespace godwit
