#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>

#include "bench/lab/lab.h"
#include "bench/lab/provenance.h"
#include "bench/lab/report/report_data.h"
#include "bench/lab/report/text_report.h"
#include "bench/lab/run/commands.h"
#include "bench/lab/run/result_dir.h"
#include "bench/lab/run/runner.h"
#include "bench/lab/scenario/scenario_files.h"
#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr double kRoughly_s = 5;  // of one run, for --dry-run

std::string programs_dir() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

absl::StatusOr<std::vector<PlannedScenario>> plan_of(const RunOptions& options,
                                                     PlanOptions& planning) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Scenario> all, load_scenarios(options.scenarios));
    GODWIT_ASSIGN_OR_RETURN(std::vector<Scenario> some, choose(all, options.names));
    GODWIT_ASSIGN_OR_RETURN(some, filter(std::move(some), options.filter));
    planning.repeats = options.lab.repeats;
    if (!options.builds.empty()) planning.builds.clear();
    for (const std::string& text : options.builds) {
        GODWIT_ASSIGN_OR_RETURN(Build build, parse_build(text));
        planning.builds.push_back(std::move(build));
    }
    const auto qemus =
        options.qemus.empty() ? std::vector<std::string>{options.lab.qemu} : options.qemus;
    for (const std::string& qemu : qemus) {
        GODWIT_ASSIGN_OR_RETURN(std::string path, find_program(qemu));
        const std::string version = provenance(path)["qemu"];
        planning.qemus.emplace_back(std::move(path), version.substr(0, version.find(' ')));
    }
    return plan(some, planning);
}

int list_scenarios(const RunOptions& options) {
    auto all = load_scenarios(options.scenarios);
    if (!all.ok()) return complain(all.status(), kUsage);
    if (!options.names.empty()) all = choose(*all, options.names);
    if (all.ok()) all = filter(*std::move(all), options.filter);
    if (!all.ok()) return complain(all.status(), kUsage);
    nlohmann::json listed = nlohmann::json::array();
    for (const Scenario& one : *all) {
        std::vector<std::string> rows;
        for (const Row& row : one.rows) rows.push_back(row.label);
        if (!options.json)
            fmt::print("{:<36} {:<18} {}\n    {}\n", one.name, fmt::join(one.sets, " "), one.about,
                       fmt::join(rows, "  "));
        listed.push_back(
            {{"name", one.name}, {"sets", one.sets}, {"about", one.about}, {"rows", rows}});
    }
    if (options.json) std::cout << listed.dump(1) << std::endl;
    return 0;
}

int say_plan(const std::vector<PlannedScenario>& planned, const RunOptions& options,
             const DoneRuns& done) {
    nlohmann::json all = nlohmann::json::array();
    size_t runs = 0;
    for (const PlannedScenario& one : planned) {
        const auto steps = steps_of(one, options.lab.warm_up, options.lab.seed, done);
        runs += steps.size();
        if (!options.json)
            fmt::print("{}: {} rows, {} repeats, {} runs with the warm-up\n", one.scenario.name,
                       one.rows.size(), one.repeats, steps.size());
        nlohmann::json rows = nlohmann::json::array();
        for (const PlannedRow& row : one.rows) {
            if (!options.json) fmt::print("    {}\n", row.label);
            rows.push_back(row.label);
        }
        all.push_back({{"scenario", one.scenario.name},
                       {"repeats", one.repeats},
                       {"runs", steps.size()},
                       {"rows", rows}});
    }
    if (options.json)
        std::cout << all.dump(1) << std::endl;
    else
        fmt::print("{} runs, very roughly {} minutes\n", runs,
                   static_cast<int>(static_cast<double>(runs) * kRoughly_s / 60) + 1);
    return 0;
}

std::string new_directory(const RunOptions& options) {
    const std::string name = options.names.size() == 1 ? options.names.front() : "some";
    std::string plain = name.substr(0, name.find('/'));
    return fmt::format("{}/../../bench/{}-{:%Y%m%d-%H%M%S}", programs_dir(), plain,
                       fmt::localtime(std::time(nullptr)));
}

int write_and_say(const RunOptions& options, bool quiet) {
    const auto results = read_results(options.out);
    if (!results.ok()) return complain(results.status(), 1);
    const nlohmann::json data = report_data(*results);
    std::string complaint;
    const auto paths = write_reports(options.out, data, programs_dir() + "/lab-report", complaint);
    if (!paths.ok()) return complain(paths.status(), 1);
    if (!complaint.empty()) std::fprintf(stderr, "godwit-lab: no HTML: %s\n", complaint.c_str());
    if (quiet) return 0;
    if (options.json) {
        std::cout << data.dump() << std::endl;
        return 0;
    }
    std::cout << "\n" << target_table(data);
    for (const std::string& path : *paths)
        std::cout << std::filesystem::weakly_canonical(path).string() << "\n";
    std::cout << std::flush;
    return 0;
}

// Where the run was interrupted, and what has been done of it.
absl::Status resume(RunOptions& options, DoneRuns& done, nlohmann::json& first_setting) {
    GODWIT_ASSIGN_OR_RETURN(Interrupted interrupted, read_interrupted(options.resume));
    GODWIT_RETURN_IF_ERROR(
        apply_arguments(interrupted.setting.value("arguments", nlohmann::json::object()), options));
    options.out = options.resume;
    done = std::move(interrupted.done);
    first_setting = std::move(interrupted.setting);
    return absl::OkStatus();
}

}  // namespace

int complain(const absl::Status& status, int code) {
    std::fprintf(stderr, "godwit-lab: %s\n", std::string(status.message()).c_str());
    return code;
}

int run_scenarios(RunOptions& options, bool quiet) {
    DoneRuns done;
    nlohmann::json first_setting;
    if (!options.resume.empty())
        if (const absl::Status status = resume(options, done, first_setting); !status.ok())
            return complain(status, kUsage);
    PlanOptions planning;
    const auto planned = plan_of(options, planning);
    if (!planned.ok()) return complain(planned.status(), kUsage);
    if (options.dry_run) return say_plan(*planned, options, done);
    options.lab.qemu = planning.qemus.front().first;
    if (options.out.empty()) options.out = new_directory(options);
    if (!first_setting.is_null())
        if (const absl::Status same =
                check_same_setting(first_setting, provenance(options.lab.qemu));
            !same.ok())
            return complain(same, kUsage);
    auto lines =
        options.resume.empty() ? create_results(options.out) : continue_results(options.out);
    if (!lines.ok()) return complain(lines.status(), kUsage);
    const auto lab = Lab::open(options.lab);
    if (!lab.ok()) return complain(lab.status(), 1);
    nlohmann::json setting = (*lab)->setting();
    setting["arguments"] = arguments_json(options);
    lines->write(setting);
    Runner runner(**lab, planning, *lines);
    const auto summary = runner.run(*planned, done);
    if (!summary.ok()) return complain(summary.status(), 1);
    const int written = write_and_say(options, quiet);
    if (!summary->whole) {
        std::fprintf(stderr, "interrupted; to go on: godwit-lab --resume %s\n",
                     std::filesystem::weakly_canonical(options.out).c_str());
        return kInterrupted;
    }
    return summary->failed > 0 ? 1 : written;
}

int run_command(RunOptions options) {
    if (options.list) return list_scenarios(options);
    if (options.names.empty() && options.resume.empty())
        return complain(absl::InvalidArgumentError(
                            "nothing is named: smoke, standard, full, or what --list says"),
                        kUsage);
    return run_scenarios(options, false);
}

int report_command(const std::string& path) {
    RunOptions options;
    options.out = path;
    return write_and_say(options, false);
}

}  // namespace godwit
