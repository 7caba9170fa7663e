#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "bench/lab/child.h"
#include "bench/lab/interrupt.h"
#include "bench/lab/lab.h"
#include "bench/lab/paper/experiment.h"
#include "bench/lab/run/commands.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;

constexpr Duration kSimulationLimit = std::chrono::minutes(5);

struct Simulator {
    std::string program;
    int cancel_fd = -1;
};

absl::StatusOr<double> simulated_metric(const ExperimentSeries& series, double x,
                                        const Simulator& simulator) {
    GODWIT_ASSIGN_OR_RETURN(const std::string words, fill_in(series.run, x));
    std::vector<std::string> argv{simulator.program};
    for (std::string& word :
         std::vector<std::string>(absl::StrSplit(words, ' ', absl::SkipEmpty())))
        argv.push_back(std::move(word));
    argv.emplace_back("--json");
    GODWIT_ASSIGN_OR_RETURN(Child child, Child::start(argv));
    GODWIT_ASSIGN_OR_RETURN(const int status, child.wait(Clock::system().now() + kSimulationLimit,
                                                         simulator.cancel_fd));
    const auto json = nlohmann::json::parse(child.out(), nullptr, false);
    if (status != 0 || !json.is_object())
        return absl::InvalidArgumentError(
            fmt::format("{}: godwit-sim {}: {}", series.label, words, child.err()));
    const nlohmann::json* value = &json;
    for (const std::string& part : std::vector<std::string>(absl::StrSplit(series.metric, '.'))) {
        const auto found = value->find(part);
        if (found == value->end()) return 0;
        value = &*found;
    }
    if (!value->is_number())
        return absl::InvalidArgumentError(
            fmt::format("{}: {} is no number of godwit-sim", series.label, series.metric));
    return value->get<double>();
}

absl::StatusOr<std::vector<PlotSeries>> run_figure(const Figure& figure,
                                                   const Simulator& simulator) {
    std::vector<PlotSeries> found;
    for (const ExperimentSeries& series : figure.series) {
        PlotSeries& one = found.emplace_back(PlotSeries{.label = series.label, .line = true});
        for (const double x : figure.values) {
            GODWIT_ASSIGN_OR_RETURN(const double value, series.model.empty()
                                                            ? simulated_metric(series, x, simulator)
                                                            : model_metric(series, x));
            one.points.push_back({x, value * series.times});
        }
    }
    return found;
}

absl::Status write_file(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::trunc);
    out << text;
    out.close();
    return out ? absl::OkStatus() : absl::UnavailableError(fmt::format("Cannot write {}", path));
}

absl::Status run_experiment(const PaperOptions& options, const Simulator& simulator) {
    const std::string directory = options.papers + "/" + options.name;
    const std::string path = directory + "/experiment.yaml";
    std::ifstream in(path);
    if (!in)
        return absl::NotFoundError(
            fmt::format("there is no {}: --list says which papers have one", path));
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Figure> figures, parse_experiment(text, path));
    const std::string out = options.out.empty() ? directory : options.out;
    std::error_code error;
    fs::create_directories(out, error);
    for (const Figure& figure : figures) {
        GODWIT_ASSIGN_OR_RETURN(const std::vector<PlotSeries> found, run_figure(figure, simulator));
        const std::string csv = figure_csv(figure, found);
        GODWIT_RETURN_IF_ERROR(write_file(fmt::format("{}/{}.csv", out, figure.name), csv));
        GODWIT_RETURN_IF_ERROR(write_file(
            fmt::format("{}/{}.svg", out, figure.name),
            svg_plot({.title = figure.title, .x = figure.x, .y = figure.y, .series = found})));
        fmt::print("{}/{}.svg\n{}\n", out, figure.name, csv);
    }
    return absl::OkStatus();
}

int list_papers(const std::string& papers) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(papers, error))
        if (fs::exists(entry.path() / "experiment.yaml"))
            names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) fmt::print("{}\n", name);
    return 0;
}

}  // namespace

int paper_command(const PaperOptions& options) {
    if (options.list) return list_papers(options.papers);
    if (options.name.empty() || options.name.find('/') != std::string::npos)
        return complain(absl::InvalidArgumentError("name a paper, as --list has it"), kUsage);
    const auto interrupt = Interrupt::create();
    if (!interrupt.ok()) return complain(interrupt.status(), 1);
    const auto programs = fs::read_symlink("/proc/self/exe").parent_path();
    const absl::Status ran = run_experiment(
        options, {.program = (programs / "godwit-sim").string(), .cancel_fd = interrupt->fd()});
    if (ran.ok()) return 0;
    if (absl::IsCancelled(ran)) return kInterrupted;
    return complain(ran, absl::IsNotFound(ran) || absl::IsInvalidArgument(ran) ? kUsage : 1);
}

}  // namespace godwit
