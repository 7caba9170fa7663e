#include "tools/godwit/fleet_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>

#include "tools/godwit/fleet_plan.h"
#include "tools/godwit/fleet_run.h"
#include "tools/godwit/migrate_command.h"
#include "tools/godwit/render.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

// How much is there to move, and who writes at all: enough to have the first VM begin.
constexpr uint64_t kGlanceUs[] = {100'000};
// Long enough to see whether pages are written again and again; the first VM moves meanwhile.
constexpr uint64_t kLookUs[] = {100'000, 300'000, 1'000'000};

// What was asked of the agent before anything begins.
struct FleetPast {
    std::vector<FleetSample> samples;
    // What can't be had of these is assumed.
    v1::ListMigrationsResponse migrations;
    v1::Calibration calibration;
};

std::vector<FleetSample> unmeasured(const std::vector<std::string>& names,
                                    const v1::ListVmsResponse& vms) {
    std::vector<FleetSample> samples;
    for (const std::string& name : names) {
        FleetSample sample{.vm = name, .rate = absl::UnknownError("not measured")};
        for (const v1::VmInfo& vm : vms.vms())
            if (vm.spec().name() == name) sample.memory_bytes = vm.spec().memory_bytes();
        samples.push_back(std::move(sample));
    }
    return samples;
}

// All at once, as far as an agent does so. Goes no further once it is stopped.
void measure(AgentClient& agent, std::span<FleetSample> samples,
             std::span<const uint64_t> windows_us, const std::string& tracker,
             const std::stop_token& stop) {
    for (size_t begin = 0; begin < samples.size() && !stop.stop_requested();
         begin += kMostAtATime) {
        std::vector<std::jthread> threads;
        for (size_t i = begin; i < std::min(begin + kMostAtATime, samples.size()); ++i)
            threads.emplace_back([&, i] {
                v1::MeasureDirtyRateRequest request;
                request.set_name(samples[i].vm);
                request.set_tracker(tracker);
                for (const uint64_t window_us : windows_us) request.add_windows_us(window_us);
                samples[i].rate = agent.measure_dirty_rate(request, stop);
            });
    }
}

// By a thread that Ctrl-C stops, so that an agent that hangs holds nobody up. None: it was stopped.
std::optional<FleetPast> ask_agent(AgentClient& agent, const FleetOptions& options,
                                   const std::vector<std::string>& names,
                                   const v1::ListVmsResponse& vms, const Interrupts& interrupts,
                                   const Wakeup& asked) {
    FleetPast past;
    {
        const std::jthread asking([&](const std::stop_token& stop) {
            set_thread_name("fleet-ask");
            past.samples = unmeasured(names, vms);
            measure(agent, past.samples, kGlanceUs, options.request.tracker(), stop);
            if (auto migrations = agent.list_migrations(stop); migrations.ok())
                past.migrations = *std::move(migrations);
            if (auto all = agent.calibration(options.request.destination(), stop); all.ok())
                past.calibration = *std::move(all);
            asked.notify();
        });
        wait_readable(interrupts.fd(), asked.fd(), std::nullopt).IgnoreError();
    }
    asked.drain();
    if (wait_readable(interrupts.fd(), -1, Clock::system().now()).ok()) return std::nullopt;
    return past;
}

absl::StatusOr<FleetOrder> order_of(const FleetPast& past, const FleetOptions& options,
                                    const std::optional<std::string>& first) {
    return auto_order(past.samples, options.request, guess_link(options.request, past.migrations),
                      usual_costs(past.calibration), options.parallel, first);
}

// While `first`, as it was seen at the glance, is under way.
absl::StatusOr<FleetOrder> look_closer(AgentClient& agent, const FleetOptions& options,
                                       FleetPast past, const std::string& first,
                                       const std::stop_token& stop) {
    const auto others =
        std::stable_partition(past.samples.begin(), past.samples.end(),
                              [&](const FleetSample& sample) { return sample.vm == first; });
    measure(agent, {others, past.samples.end()}, kLookUs, options.request.tracker(), stop);
    if (!options.json && !stop.stop_requested())
        for (const FleetSample& sample : past.samples)
            if (!sample.rate.ok())
                std::cerr << fmt::format("{} counts as full and idle: {}\n", sample.vm,
                                         std::string(sample.rate.status().message()));
    return order_of(past, options, first);
}

// An error of ours, before anything was touched.
ExitCode refuse_fleet(const absl::Status& status, bool json) {
    if (detail_of(status) || absl::IsInvalidArgument(status)) return print_error(status, json);
    return print_error(
        with_detail(status, untouched(absl::IsNotFound(status) ? "NOT_FOUND" : "REFUSED")), json);
}

void print_fleet(const FleetBoard& board, const FleetFrame& frame, bool json) {
    if (json)
        std::cout << json_text(fleet_json(board, frame)) << std::endl;
    else
        std::cout << fleet_summary(board, frame) << std::flush;
    for (const FleetGuest& guest : board.guests())
        if (guest.end.code != ExitCode::kDone)
            std::cerr << "godwit: " << fleet_verdict(guest) << std::endl;
}

}  // namespace

ExitCode run_fleet(AgentClient& agent, const FleetOptions& options) {
    const Interrupts interrupts;
    absl::StatusOr<Wakeup> changed = Wakeup::create();
    if (!changed.ok()) return print_error(changed.status(), options.json);
    const absl::StatusOr<v1::ListVmsResponse> vms = agent.list_vms();
    if (!vms.ok()) return print_error(vms.status(), options.json);
    const absl::StatusOr<FleetVms> fleet = choose_fleet(options.vms, *vms);
    if (!fleet.ok()) return refuse_fleet(fleet.status(), options.json);

    FleetFrame frame{
        .schedule = options.gang ? "gang" : options.schedule,
        .left_out = fleet->left_out,
        .downtime_limit_ms = static_cast<double>(options.request.downtime_limit_us()) / 1e3};
    const MonotonicTime before = Clock::system().now();
    absl::StatusOr<FleetOrder> order =
        options.gang ? gang_order(*fleet)
                     : plain_order(fleet->names, options.schedule == "serial", options.parallel);
    if (!order.ok()) return refuse_fleet(order.status(), options.json);
    for (const LeftOut& one : fleet->left_out)
        std::cerr << "left out: " << left_out_text(one) << std::endl;
    FleetRun::Options how{.quiet = options.json, .gang = options.gang};
    std::optional<FleetPast> past;
    if (frame.schedule == "auto") {
        past = ask_agent(agent, options, fleet->names, *vms, interrupts, *changed);
        // Without it nothing will begin: FleetRun sees the interrupt first.
        if (past) order = order_of(*past, options, std::nullopt);
        frame.times.sampling = Clock::system().now() - before;
        if (!order.ok()) return refuse_fleet(order.status(), options.json);
    }
    if (past && order->vms.size() > 1) {
        const std::string first = order->vms.front();
        if (!options.json)
            std::cerr << fmt::format("auto: {} first; seeing for 1 s what the others write", first)
                      << std::endl;
        how.look_closer = [&agent, &options, past = *past, first](const std::stop_token& stop) {
            return look_closer(agent, options, past, first, stop);
        };
    } else if (!options.json) {
        std::cerr << frame.schedule << ": " << order->reason << std::endl;
    }
    FleetRun run(agent, interrupts, *std::move(changed), *order, options.request, std::move(how));
    run.run();
    frame.order = run.order();
    frame.times.total = run.total();
    print_fleet(run.board(), frame, options.json);
    return run.board().exit_code();
}

}  // namespace godwit
