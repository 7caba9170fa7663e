#include "bench/lab/run/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <numeric>

#include "bench/lab/host_load.h"
#include "bench/lab/plain_copy.h"
#include "bench/lab/report/results.h"
#include "bench/lab/service_net.h"
#include "bench/lab/shaped_link.h"
#include "bench/lab/warm_memory.h"

namespace godwit {
namespace {

constexpr Duration kIdlePatience = std::chrono::minutes(10);

std::string figures(const Metrics& metrics) {
    std::string text;
    for (const auto& [name, unit] : {std::pair{"total_ms", "ms"},
                                     {"downtime_ms", "ms down"},
                                     {"cpu_s", "CPU s"},
                                     {"before_ticks_per_ms", "turns/ms"}})
        if (const auto found = metrics.find(name); found != metrics.end())
            text +=
                fmt::format("{}{} {}", text.empty() ? "" : ", ", number_text(found->second), unit);
    return text;
}

}  // namespace

// What a scenario needs for as long as it runs.
struct Runner::Stage {
    const Scenario& scenario;
    bool kvm = false;
    std::unique_ptr<ShapedLink> link;
    std::unique_ptr<ServiceNet> net;  // where a row's guest has a service
    std::array<LabHost, 2> hosts;
    std::vector<std::unique_ptr<AgentPair>> agents;  // for each build
    std::unique_ptr<LibvirtPair> libvirt;            // where a row asks for it
    std::vector<bool> missing;                       // for each row
};

absl::StatusOr<MovedOnce> Runner::move_once(const PlannedRow& planned, int repeat, Stage& stage) {
    const Row& row = planned.row;
    LabSetup setup =
        lab_.setup(lab_.equip(row.guest, stage.kvm), stage.hosts, *stage.agents[planned.build]);
    setup.guest.seed = guest_seed(lab_.options().seed, repeat);
    Bytes working_set = row.guest.working_set;
    Bytes warm = memory_of_move(row.engine, row.guest);
    for (const GuestConfig& guest : row.fleet) {
        setup.fleet.push_back(lab_.equip(guest, stage.kvm));
        setup.fleet.back().seed = setup.guest.seed + setup.fleet.size() - 1;
        if (setup.fleet.size() == 1) continue;
        warm += memory_of_move(row.engine, guest);
        working_set += guest.working_set;
    }
    setup.qemu = planned.qemu;
    setup.bandwidth = row.bandwidth;
    setup.downtime_limit = row.downtime_limit;
    setup.limit = stage.scenario.limit;
    setup.tracker = row.tracker;
    setup.migrate_flags = row.migrate_flags;
    setup.qemu_parameters = row.qemu_parameters;
    setup.libvirt = stage.libvirt.get();
    if (row.engine.kind == EngineKind::kMicro) {
        GODWIT_ASSIGN_OR_RETURN(Metrics metrics, run_micro_bench(lab_.bin_dir(), row.micro,
                                                                 setup.limit, setup.cancel_fd));
        return MovedOnce{.metrics = std::move(metrics)};
    }
    if (row.engine.kind == EngineKind::kCopy) {
        GODWIT_ASSIGN_OR_RETURN(Metrics metrics, plain_copy(setup, row.guest.working_set));
        return MovedOnce{.metrics = std::move(metrics)};
    }
    const Bytes rate = row.bandwidth > 0 ? row.bandwidth : stage.scenario.link.bytes_per_s;
    MoveMeasure measure{.watch = stage.scenario.watch,
                        .before = stage.scenario.before,
                        .after = stage.scenario.after,
                        .tells_guest = stage.kvm,
                        .idle = row.guest.idle,
                        .bytes_per_s = static_cast<double>(rate),
                        .working_set = working_set,
                        .cpu_latency = row.cpu_latency,
                        .warm = warm,
                        .cancel_fd = setup.cancel_fd};
    if (stage.link) {
        measure.link_bytes = [&stage] { return stage.link->bytes(); };
        measure.retransmissions = [&stage] { return stage.link->retransmissions(); };
    }
    if (row.guest.service) {
        GODWIT_ASSIGN_OR_RETURN(setup.guest, lab_.equip_service(row.guest, stage.kvm));
    }
    GODWIT_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, make_engine(row.engine, setup));
    if (row.guest.service) return measure_service(*engine, measure, *stage.net);
    if (row.engine.kind == EngineKind::kFleet) return measure_fleet(*engine, measure);
    if (row.engine.kind != EngineKind::kStay) return measure_move(*engine, measure);
    measure.before = stage.scenario.stay;
    return measure_stay(*engine, measure);
}

ProgressState Runner::state(const PlannedScenario& planned, const Step& step, int done) const {
    const auto seconds = [&](double sum, const auto& one) {
        return sum + durations_.expected(one.first, one.second);
    };
    return {.done = done_ + done,
            .total = done_ + static_cast<int>(left_.size()),
            .what = planned.scenario.name + ": " + planned.rows[step.row].label,
            .which = step.repeat < 0 ? "warm-up"
                                     : fmt::format("{} of {}", step.repeat + 1, planned.repeats),
            .left_s = std::accumulate(left_.begin() + done, left_.end(), 0.0, seconds),
            .now = std::time(nullptr)};
}

void Runner::note(const PlannedScenario& planned, const Step& step,
                  const absl::StatusOr<MovedOnce>& moved, nlohmann::json line, double wall_s) {
    const PlannedRow& row = planned.rows[step.row];
    line["wall_s"] = wall_s;
    line["ok"] = moved.ok();
    if (moved.ok()) {
        line["metrics"] = moved->metrics;
        line["series"] = moved->series;
    } else {
        line["error"] = std::string(moved.status().message());
        line["missing"] = absl::IsUnimplemented(moved.status());
        if (!absl::IsUnimplemented(moved.status())) ++summary_.failed;
    }
    if (step.repeat >= 0 || !moved.ok()) lines_.write(line);
    progress_.result(fmt::format("{}: {} {}: {}", planned.scenario.name, row.label,
                                 step.repeat < 0 ? "warm-up" : fmt::format("#{}", step.repeat + 1),
                                 moved.ok() ? figures(moved->metrics)
                                 : absl::IsUnimplemented(moved.status())
                                     ? "skipped: " + std::string(moved.status().message())
                                     : "failed: " + std::string(moved.status().message())),
                     state(planned, step, 1));
}

bool Runner::run_step(const PlannedScenario& planned, const Step& step, Stage& stage) {
    const PlannedRow& row = planned.rows[step.row];
    progress_.show(state(planned, step, 0));
    const MonotonicTime reached = Clock::system().now();
    const int cancel_fd = lab_.series().cancel_fd;
    const auto idle = wait_until_idle(lab_.options().idle_percent, kIdlePatience, cancel_fd);
    if (absl::IsCancelled(idle.status())) return false;
    nlohmann::json line{{"kind", "run"},
                        {"scenario", planned.scenario.name},
                        {"row", row.label},
                        {"repeat", step.repeat},
                        {"load", load_now()},
                        {"unix_s", std::time(nullptr)},
                        {"seed", guest_seed(lab_.options().seed, step.repeat)}};
    if (idle.ok()) line["idle_percent_before"] = *idle;
    const MonotonicTime begun = Clock::system().now();
    const absl::StatusOr<MovedOnce> moved = move_once(row, step.repeat, stage);
    if (absl::IsCancelled(moved.status())) return false;
    const MonotonicTime ended = Clock::system().now();
    const double wall_s = to_ms(ended - begun) / 1e3;
    // What comes will wait for the host to be idle, too.
    durations_.note(planned.scenario.name, row.label, to_ms(ended - reached) / 1e3);
    if (absl::IsUnimplemented(moved.status())) stage.missing[step.row] = true;
    note(planned, step, moved, std::move(line), wall_s);
    return true;
}

absl::StatusOr<bool> Runner::run_scenario(const PlannedScenario& planned,
                                          const std::vector<Step>& steps) {
    Stage stage{.scenario = planned.scenario};
    const std::string& accel = planned.scenario.accel;
    stage.kvm = lab_.has_kvm() && !(accel == "tcg" && lab_.options().accel == "auto");
    if (planned.scenario.link.cable()) {
        GODWIT_ASSIGN_OR_RETURN(stage.link, ShapedLink::create(planned.scenario.link.bytes_per_s,
                                                               planned.scenario.link.delay,
                                                               planned.scenario.link.burst));
        stage.hosts = stage.link->hosts();
        if (std::any_of(planned.rows.begin(), planned.rows.end(),
                        [](const PlannedRow& row) { return row.row.guest.service; })) {
            GODWIT_ASSIGN_OR_RETURN(stage.net, ServiceNet::create(*stage.link));
        }
    }
    for (size_t i = 0; i < options_.builds.size(); ++i)
        stage.agents.push_back(
            lab_.agents(stage.hosts, options_.builds[i].bin_dir, std::to_string(i)));
    const auto libvirt_row = std::find_if(
        planned.rows.begin(), planned.rows.end(),
        [](const PlannedRow& row) { return row.row.engine.kind == EngineKind::kLibvirt; });
    if (libvirt_row != planned.rows.end())
        stage.libvirt = lab_.libvirts(stage.hosts, libvirt_row->qemu);
    stage.missing.resize(planned.rows.size(), false);
    std::vector<std::string> labels;
    for (const PlannedRow& row : planned.rows) labels.push_back(row.label);
    lines_.write(scenario_line(planned.scenario, labels, stage.kvm ? "kvm" : "tcg"));
    for (const Step& step : steps) {
        if (!stage.missing[step.row] && !run_step(planned, step, stage)) return false;
        left_.erase(left_.begin());
        ++done_;
    }
    return true;
}

absl::StatusOr<RunSummary> Runner::run(const std::vector<PlannedScenario>& plan,
                                       const DoneRuns& done) {
    std::vector<std::vector<Step>> steps;
    for (const PlannedScenario& planned : plan) {
        steps.push_back(steps_of(planned, lab_.options().warm_up, lab_.options().seed, done));
        for (const Step& step : steps.back())
            left_.emplace_back(planned.scenario.name, planned.rows[step.row].label);
    }
    for (size_t i = 0; i < plan.size() && summary_.whole; ++i) {
        if (steps[i].empty()) continue;
        GODWIT_ASSIGN_OR_RETURN(summary_.whole, run_scenario(plan[i], steps[i]));
    }
    progress_.end();
    return summary_;
}

}  // namespace godwit
