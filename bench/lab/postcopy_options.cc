#include "bench/lab/postcopy_options.h"

#include <cstdio>

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

absl::Status check(PostcopyOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(options.engines, parse_engines(options.lab.engines));
    for (const EngineName& engine : options.engines)
        if (engine.kind == EngineKind::kCopy)
            return absl::InvalidArgumentError("copy moves no guest");
    options.guest.seed = options.lab.seed;
    return check_guest(options.guest);
}

}  // namespace

std::optional<int> parse_postcopy_options(int argc, char** argv, PostcopyOptions& options) {
    CLI::App app(kAbout);
    options.lab.program = "postcopy_bench";
    options.lab.engines = "all";
    options.guest.memory = Bytes{1} << 30;
    options.guest.working_set = Bytes{256} << 20;
    add_lab_options(app, options.lab);
    add_bytes(app, "--guest-memory", options.guest.memory, "");
    add_bytes(app, "--ws", options.guest.working_set, "The guest's working set, written at random");
    app.add_option("--rate", options.guest.writes_per_s, "Pages it writes per second; 0: flat out")
        ->capture_default_str();
    if (const auto code = parse_command_line(app, argc, argv)) return code;
    const absl::Status status = check(options);
    if (status.ok()) return std::nullopt;
    std::fprintf(stderr, "postcopy_bench: %s\n", std::string(status.message()).c_str());
    return 2;
}

}  // namespace godwit
