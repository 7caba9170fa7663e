#include "bench/lab/lab_options.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <filesystem>

#include "engine/guest/qemu/kvm_probe.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr const char* kQboot = "/usr/share/qemu/qboot.rom";

// A value that one of our parsers reads; what it complains of is CLI11's complaint.
template <typename Value, typename Parse>
CLI::Option* add_parsed(CLI::App& app, const char* name, Value& value, const char* about,
                        Parse parse) {
    return app.add_option_function<std::string>(
        name,
        [&value, name, parse](const std::string& text) {
            const auto parsed = parse(text);
            if (!parsed.ok())
                throw CLI::ValidationError(name, std::string(parsed.status().message()));
            value = static_cast<Value>(*parsed);
        },
        about);
}

}  // namespace

CLI::Option* add_bytes(CLI::App& app, const char* name, Bytes& value, const char* about) {
    return add_parsed(app, name, value, about, parse_bytes)
        ->type_name("SIZE")
        ->default_str(value > 0 ? format_bytes(value) : "");
}

CLI::Option* add_duration(CLI::App& app, const char* name, Duration& value, const char* about) {
    return add_parsed(app, name, value, about, parse_duration)
        ->type_name("TIME")
        ->default_str(fmt::format("{}ms", to_ms(value)));
}

void add_lab_options(CLI::App& app, LabOptions& options) {
    app.add_option("--engines", options.engines, "What to compare")->capture_default_str();
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
    add_parsed(app, "--bandwidth", options.bandwidth,
               "Limit for all engines alike, as 1Gbit or 100MiB/s", parse_rate)
        ->type_name("RATE");
    add_duration(app, "--downtime-limit", options.downtime_limit,
                 "For pre-copy, of all engines alike");
    add_duration(app, "--limit", options.limit, "What does not end within this has failed");
    add_duration(app, "--baseline", options.baseline,
                 "The guest is watched so long before it is moved");
    app.add_option("--tracker", options.tracker, "Godwit's: auto, uffd-wp, kvm-dirty-log")
        ->capture_default_str();
    app.add_option_function<std::string>(
        "--migrate-flags",
        [&options](const std::string& words) {
            options.migrate_flags = absl::StrSplit(words, ' ', absl::SkipEmpty());
        },
        "Further words of `godwit migrate`, as in --migrate-flags=\"--streams 4\"");
    app.add_option("--qemu", options.qemu, "The QEMU of all engines")->capture_default_str();
    app.add_option("--seed", options.seed, "Of the guest's writes and of the order of runs")
        ->capture_default_str();
    app.add_option("--scratch", options.scratch, "A directory for what is needed meanwhile")
        ->capture_default_str();
    app.add_option("--json", options.json_path,
                   "File for JSON lines: the setting, then one for each run; -: stdout");
}

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    return std::nullopt;
}

absl::Status find_machine(LabOptions& options, const std::string& bin_dir, GuestConfig& guest) {
    GODWIT_ASSIGN_OR_RETURN(options.qemu, find_program(options.qemu));
    guest.kvm = options.accel == "kvm" || (options.accel == "auto" && probe_kvm());
    if (guest.kvm) guest.cpu = default_kvm_cpu();
    guest.kernel = bin_dir + "/guest.elf";
    if (std::filesystem::exists(kQboot)) guest.firmware = kQboot;
    if (!std::filesystem::exists(guest.kernel))
        return absl::NotFoundError(fmt::format("there is no {}: build it", guest.kernel));
    return absl::OkStatus();
}

}  // namespace godwit
