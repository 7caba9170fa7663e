#include "bench/lab/series.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>

#include "bench/lab/host_load.h"

namespace godwit {
namespace {

constexpr Duration kIdlePatience = std::chrono::minutes(10);

}  // namespace

Series::Series(Options options, std::vector<Contender> contenders, Run run, JsonLines& lines)
    : options_(std::move(options)),
      contenders_(std::move(contenders)),
      run_(std::move(run)),
      lines_(lines) {
    for (const Contender& contender : contenders_) results_.push_back({.engine = contender.label});
}

bool Series::run_all() {
    for (int repeat = -options_.warm_up; repeat < options_.repeats; ++repeat)
        for (const size_t index : shuffled(contenders_.size(), options_.seed, repeat)) {
            if (results_[index].missing) continue;
            if (!run_one(index, repeat)) return false;
        }
    return true;
}

bool Series::run_one(size_t index, int repeat) {
    const Contender& contender = contenders_[index];
    const auto idle = wait_until_idle(options_.idle_percent, kIdlePatience, options_.cancel_fd);
    if (absl::IsCancelled(idle.status())) return false;
    nlohmann::json line = options_.tags;
    line.update(
        {{"kind", "run"}, {"engine", contender.label}, {"repeat", repeat}, {"load", load_now()}});
    if (idle.ok()) line["idle_percent_before"] = *idle;
    const auto metrics = run_(contender);
    if (absl::IsCancelled(metrics.status())) return false;
    line["ok"] = metrics.ok();
    if (metrics.ok())
        line["metrics"] = *metrics;
    else
        line["error"] = metrics.status().ToString();
    if (repeat >= 0 || !metrics.ok()) lines_.write(line);
    std::fprintf(stderr, "%s %s: %s\n", repeat < 0 ? "warm-up" : "run", contender.label.c_str(),
                 summary(metrics).c_str());
    note(index, repeat, metrics);
    return true;
}

std::string Series::summary(const absl::StatusOr<Metrics>& metrics) const {
    if (!metrics.ok()) return metrics.status().ToString();
    std::string text;
    for (const std::string& name : options_.shown)
        if (const auto found = metrics->find(name); found != metrics->end())
            text += fmt::format("{}{} {:.2f}", text.empty() ? "" : ", ", name, found->second);
    return text;
}

void Series::note(size_t index, int repeat, const absl::StatusOr<Metrics>& metrics) {
    Results& results = results_[index];
    if (metrics.ok()) {
        if (repeat >= 0) results.runs.push_back(*metrics);
        return;
    }
    results.last_error = std::string(metrics.status().message());
    ++results.failed;
    results.missing = absl::IsUnimplemented(metrics.status());
}

std::vector<size_t> shuffled(size_t count, uint64_t seed, int repeat) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(repeat)};
    std::mt19937_64 random(sequence);
    // By hand: what std::shuffle does with the same numbers is each library's own affair.
    for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    return order;
}

bool any_failed(const std::vector<Results>& all) {
    return std::any_of(all.begin(), all.end(),
                       [](const Results& r) { return r.failed > 0 && !r.missing; });
}

}  // namespace godwit
