#include "bench/lab/transport_options.h"

#include <fmt/format.h>

#include <cstdio>

namespace godwit {
namespace {

std::string about() {
    std::string text =
        "How long, with how many bytes and how much CPU the memory of a guest moves: Godwit beside "
        "QEMU's own migration, and what was asked of Godwit.\n\n"
        "Example:\n  transport_bench --case sparse,dense --repeats 5 --json runs.jsonl\n\nCases:\n";
    for (const TransportCase& one : transport_cases())
        text +=
            fmt::format("  {:<18} {}\n                     {}\n", one.name, one.about, one.engines);
    return text +
           "\nEngines: copy (a plain copy over two sockets); qemu-{precopy,multifd,multifd-zstd,"
           "xbzrle}, with\n-shared for RAM in a shared file; godwit-STRATEGY. What the figures "
           "are: "
           "bench/lab/README.md.";
}

struct Words {
    std::string cases = "all";
    Bytes memory = 0;
    Bytes working_set = 0;
};

absl::Status apply(const Words& words, TransportOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(options.cases, parse_cases(words.cases));
    for (TransportCase& one : options.cases) {
        if (!options.lab.engines.empty()) one.engines = options.lab.engines;
        GODWIT_RETURN_IF_ERROR(parse_engines(one.engines).status());
        for (GuestConfig& guest : one.guests) {
            if (words.memory > 0) guest.memory = words.memory;
            if (words.working_set > 0) guest.working_set = words.working_set;
            GODWIT_RETURN_IF_ERROR(check_guest(guest));
        }
    }
    return absl::OkStatus();
}

}  // namespace

std::optional<int> parse_transport_options(int argc, char** argv, TransportOptions& options) {
    CLI::App app(about());
    Words words;
    options.lab.program = "transport_bench";
    options.lab.limit = std::chrono::minutes(3);
    app.add_option("--case", words.cases, "Which, in this order")->capture_default_str();
    add_lab_options(app, options.lab);
    add_bytes(app, "--guest-memory", words.memory, "Instead of a case's own");
    add_bytes(app, "--ws", words.working_set, "The guest's working set, instead of a case's own");
    if (const auto code = parse_command_line(app, argc, argv)) return code;
    const absl::Status status = apply(words, options);
    if (status.ok()) return std::nullopt;
    std::fprintf(stderr, "transport_bench: %s\n", std::string(status.message()).c_str());
    return 2;
}

}  // namespace godwit
