// godwit-lab: moves guests by every engine in turn, and reports how they compare.
#include <CLI/CLI.hpp>

#include "bench/lab/run/commands.h"
#include "engine/base/log.h"

namespace godwit {
namespace {

constexpr const char* kAbout =
    "Moves guests by Godwit and by QEMU's own migration in turn, and reports how they compare.";
constexpr const char* kExamples =
    "Examples:\n"
    "  godwit-lab --list\n"
    "  godwit-lab standard --wait-idle 60\n"
    "  godwit-lab sparse dense --filter 'godwit|multifd' --repeats 10 --out /tmp/results\n"
    "  godwit-lab --resume /tmp/results\n"
    "  godwit-lab compare main HEAD\n"
    "  godwit-lab prediction --wait-idle 80\n\n"
    "Exit codes: 0 done, 1 a run failed, 2 usage, 130 interrupted. What the figures are:\n"
    "bench/lab/README.md.";

void add_report(CLI::App& app, std::string& path) {
    CLI::App* report = app.add_subcommand("report", "Write the reports of results once more");
    report->footer("Example:\n  godwit-lab report build/bench/standard-20261126-153000");
    report->add_option("DIRECTORY", path, "Of a run, with its runs.jsonl")->required();
}

void add_compare(CLI::App& app, CompareOptions& options) {
    CLI::App* compare = app.add_subcommand(
        "compare", "Two results, or two git revisions, which are then built and run interleaved");
    compare->footer(
        "Examples:\n  godwit-lab compare build/bench/monday build/bench/friday\n"
        "  godwit-lab compare main HEAD --run sparse --repeats 10\n\n"
        "Of revisions every row runs 10 times unless --repeats says otherwise.\n\n"
        "Exit codes: 0 nothing became worse, 1 something did or a run failed, 2 usage, 130 "
        "interrupted.");
    compare->add_option("A", options.before, "Results or revision, before")->required();
    compare->add_option("B", options.after, "Results or revision, after")->required();
    compare->add_option("--tolerance", options.tolerance, "What is no change: 0.05 is 5 %")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    compare->add_flag("--all", options.all, "Also what is the same");
    compare->add_option("--run", options.run.names,
                        "Of revisions: sets and scenarios; default: the set \"compare\"");
    add_measuring_options(*compare, options.run);
}

void add_prediction(CLI::App& app, PredictionOptions& options) {
    add_prediction_options(
        *app.add_subcommand("prediction",
                            "Hold `godwit plan` against migrations: a grid of them, each foretold"),
        options);
}

void add_paper(CLI::App& app, PaperOptions& options) {
    options.papers = GODWIT_SOURCE_DIR "/papers";
    CLI::App* paper =
        app.add_subcommand("paper", "Run and plot the experiment of one of papers/, simulated");
    paper->footer("Example:\n  godwit-lab paper clark-nsdi05");
    paper->add_option("NAME", options.name, "As --list has it");
    paper->add_option("--papers", options.papers)->capture_default_str();
    paper->add_option("--out", options.out,
                      "Directory for plots and figures; default: beside the experiment");
    paper->add_flag("--list", options.list, "Say which papers have an experiment");
}

int run_program(int argc, char** argv) {
    CLI::App app(kAbout);
    app.footer(kExamples);
    RunOptions run;
    CompareOptions compare;
    PredictionOptions prediction;
    PaperOptions paper;
    std::string path;
    add_run_options(app, run);
    add_report(app, path);
    add_compare(app, compare);
    add_prediction(app, prediction);
    add_paper(app, paper);
    if (const auto code = parse_command_line(app, argc, argv)) return *code;
    start_logging("godwit-lab", "error");
    if (app.got_subcommand("report")) return report_command(path);
    if (app.got_subcommand("compare")) return compare_command(std::move(compare));
    if (app.got_subcommand("prediction")) return prediction_command(std::move(prediction));
    if (app.got_subcommand("paper")) return paper_command(paper);
    return run_command(std::move(run));
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run_program(argc, argv); }
