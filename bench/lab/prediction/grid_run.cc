#include "bench/lab/prediction/grid_run.h"

#include <fmt/format.h>

#include <ctime>
#include <fstream>
#include <map>

#include "bench/lab/host_load.h"
#include "bench/lab/prediction/cell_run.h"
#include "bench/lab/report/results.h"
#include "bench/lab/shaped_link.h"

namespace godwit {
namespace {

// A grid on a host that is never idle ends all the same.
constexpr Duration kGridIdlePatience = std::chrono::seconds(30);

std::string outcome_text(const nlohmann::json& ran) {
    const nlohmann::json& report = ran["report"];
    return fmt::format("{:.0f} ms, {:.1f} ms down, {}", report.value("total_ms", 0.0),
                       report.value("downtime_ms", 0.0), report.value("switch_reason", ""));
}

}  // namespace

// What a link needs for as long as its cells run.
struct GridRun::Stage {
    Bytes link_bytes_per_s = 0;
    std::unique_ptr<ShapedLink> link;
    std::array<LabHost, 2> hosts;
    std::unique_ptr<AgentPair> agents;
};

nlohmann::json cell_json(const GridCell& cell) {
    return {{"cell", cell.name},
            {"strategy", cell.strategy},
            {"otherwise", cell.otherwise},
            {"pattern", cell.pattern},
            {"fill", cell.fill},
            {"write_share", cell.write_share},
            {"working_set_bytes", cell.working_set},
            {"link_bytes_per_s", cell.link_bytes_per_s},
            {"downtime_limit_ms", to_ms(cell.downtime_limit)},
            {"held_out", cell.held_out}};
}

std::string GridRun::knowledge_path(Bytes link) const {
    return fmt::format("{}/calibration-{}.json", options_.directory, link);
}

void GridRun::note(const GridCell& cell, const absl::StatusOr<nlohmann::json>& ran,
                   nlohmann::json line) {
    line["ok"] = ran.ok();
    if (ran.ok()) {
        line.update(*ran);
    } else {
        line["error"] = std::string(ran.status().message());
        ++summary_.failed;
    }
    lines_.write(line);
    progress_.result(fmt::format(
        "{}: {}", cell.name,
        ran.ok() ? outcome_text(*ran) : "failed: " + std::string(ran.status().message())));
}

absl::Status GridRun::run_one(const GridCell& cell, Stage& stage, const char* kind) {
    double left_s = 0;
    for (const GridCell& one : left_) left_s += durations_.expected(one.strategy, one.name);
    progress_.show({.done = done_,
                    .total = done_ + static_cast<int>(left_.size()),
                    .what = cell.name,
                    .which = cell.held_out ? "held out" : kind,
                    .left_s = left_s,
                    .now = std::time(nullptr)});
    const LabSetup setup =
        lab_.setup(lab_.equip(guest_of(cell), lab_.has_kvm()), stage.hosts, *stage.agents);
    const auto idle =
        wait_until_idle(lab_.options().idle_percent, kGridIdlePatience, setup.cancel_fd);
    if (absl::IsCancelled(idle.status())) return idle.status();
    nlohmann::json line = cell_json(cell);
    line["kind"] = kind;
    line["load"] = load_now();
    line["unix_s"] = std::time(nullptr);
    if (idle.ok()) line["idle_percent_before"] = *idle;
    const MonotonicTime begun = Clock::system().now();
    const absl::StatusOr<nlohmann::json> ran = run_cell(cell, setup, options_.sample);
    if (absl::IsCancelled(ran.status())) return ran.status();
    line["wall_s"] = to_ms(Clock::system().now() - begun) / 1e3;
    durations_.note(cell.strategy, cell.name, line["wall_s"]);
    note(cell, ran, std::move(line));
    return absl::OkStatus();
}

absl::Status GridRun::prepare(Stage& stage) {
    GODWIT_ASSIGN_OR_RETURN(stage.link, ShapedLink::create(stage.link_bytes_per_s));
    stage.hosts = stage.link->hosts();
    stage.agents = lab_.agents(stage.hosts, "", std::to_string(stage.link_bytes_per_s));
    GODWIT_RETURN_IF_ERROR(stage.agents->start());
    std::ifstream in(knowledge_path(stage.link_bytes_per_s));
    const nlohmann::json known = nlohmann::json::parse(in, nullptr, false);
    if (known.is_object()) return put_calibration(*stage.agents, known);
    for (const GridCell& cell : calibration_cells(stage.link_bytes_per_s))
        GODWIT_RETURN_IF_ERROR(run_one(cell, stage, "calibration"));
    return absl::OkStatus();
}

absl::Status GridRun::run_link(Bytes link, const std::vector<GridCell>& cells) {
    Stage stage{.link_bytes_per_s = link};
    GODWIT_RETURN_IF_ERROR(prepare(stage));
    const auto keep = [&] {
        const nlohmann::json known = take_calibration(*stage.agents);
        if (known.is_object()) std::ofstream(knowledge_path(link)) << known.dump() << "\n";
        return known;
    };
    nlohmann::json known = keep();
    for (const GridCell& cell : cells) {
        if (cell.held_out && known.is_object())
            GODWIT_RETURN_IF_ERROR(put_calibration(*stage.agents, known));
        GODWIT_RETURN_IF_ERROR(run_one(cell, stage, "run"));
        if (!cell.held_out) known = keep();
        left_.erase(left_.begin());
        ++done_;
    }
    return absl::OkStatus();
}

absl::StatusOr<GridSummary> GridRun::run(const std::vector<GridCell>& grid) {
    std::map<Bytes, std::vector<GridCell>> links;
    for (const GridCell& cell : grid)
        if (!options_.done.contains(cell.name)) links[cell.link_bytes_per_s].push_back(cell);
    for (const auto& [link, cells] : links) left_.insert(left_.end(), cells.begin(), cells.end());
    for (const auto& [link, cells] : links) {
        const absl::Status ran = run_link(link, cells);
        if (absl::IsCancelled(ran)) {
            summary_.whole = false;
            break;
        }
        GODWIT_RETURN_IF_ERROR(ran);
    }
    progress_.end();
    return summary_;
}

}  // namespace godwit
