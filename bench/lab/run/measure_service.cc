#include <fmt/format.h>

#include <algorithm>

#include "bench/lab/run/measure_move.h"
#include "bench/lab/run/move_cost.h"
#include "bench/lab/run/process_watch.h"
#include "bench/lab/service_client.h"
#include "bench/lab/service_net.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kBootLimit = std::chrono::seconds(120);
constexpr Duration kSlice = std::chrono::milliseconds(20);
// A client must be seen to go on, or nobody knows how long it waited.
constexpr Duration kLeastAfter = std::chrono::seconds(2);

absl::Status wait_for(Duration duration, int cancel_fd) {
    const absl::Status waited = wait_readable(-1, cancel_fd, Clock::system().now() + duration);
    return absl::IsCancelled(waited) ? waited : absl::OkStatus();
}

// [ms, answers per ms]…, as a guest's pace.
nlohmann::json answers_series(const std::vector<MonotonicTime>& answers, const MoveTimes& times) {
    nlohmann::json series = nlohmann::json::array();
    auto from = std::lower_bound(answers.begin(), answers.end(), times.begun);
    for (MonotonicTime at = times.begun; at < times.ended; at += kSlice) {
        const auto to = std::lower_bound(from, answers.end(), at + kSlice);
        series.push_back(
            {to_ms(at - times.requested), static_cast<double>(to - from) / to_ms(kSlice)});
        from = to;
    }
    return series;
}

}  // namespace

absl::StatusOr<MovedOnce> measure_service(Engine& engine, const MoveMeasure& options,
                                          const ServiceNet& net) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const auto client,
                            ServiceClient::start({.name_space = net.client_namespace(),
                                                  .address = ServiceNet::kGuestAddress},
                                                 kBootLimit, options.cancel_fd));
    GODWIT_ASSIGN_OR_RETURN(const auto warm, WarmMemory::hold(options.warm, options.cancel_fd));
    MoveTimes times{.begun = Clock::system().now()};
    GODWIT_ASSIGN_OR_RETURN(const CostReading still, read_costs(engine, options));
    GODWIT_RETURN_IF_ERROR(wait_for(options.before, options.cancel_fd));
    GODWIT_ASSIGN_OR_RETURN(const auto processes, ProcessWatch::start());
    GODWIT_ASSIGN_OR_RETURN(const CostReading begin, read_costs(engine, options));
    GODWIT_ASSIGN_OR_RETURN(CpuLatencyHold awake, CpuLatencyHold::take(options.cpu_latency));
    times.requested = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(Metrics metrics, engine.move());
    awake = {};
    times.done = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const CostReading end, read_costs(engine, options));
    Metrics used = processes->stop();
    GODWIT_RETURN_IF_ERROR(wait_for(std::max(options.after, kLeastAfter), options.cancel_fd));
    times.ended = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const ServiceSeen seen, client->stop());
    GODWIT_ASSIGN_OR_RETURN(Metrics details, engine.details());
    metrics.merge(details);
    metrics.merge(used);
    metrics.merge(service_metrics(seen, times));
    add_cost(begin, end, cpu_per_s(still, begin), options, metrics);
    MovedOnce moved;
    GODWIT_ASSIGN_OR_RETURN(moved.series, engine.series());
    moved.series["pace"] = answers_series(seen.answers, times);
    if (metrics["disk_errors"] > 0 || metrics["client_lost_writes"] > 0)
        return absl::DataLossError(fmt::format("{} answered writes are lost, {} disk errors",
                                               metrics["client_lost_writes"],
                                               metrics["disk_errors"]));
    moved.metrics = std::move(metrics);
    return moved;
}

}  // namespace godwit
