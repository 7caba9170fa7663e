#include "bench/lab/micro_bench.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/lab/child.h"

namespace godwit {
namespace {

constexpr size_t kMaxMicroComplaint = 400;

// Numbers that say how often it ran, not what it found.
const std::set<std::string>& bookkeeping() {
    static const std::set<std::string> kNames{"family_index", "per_family_instance_index",
                                              "repetitions",  "repetition_index",
                                              "threads",      "iterations",
                                              "real_time",    "cpu_time"};
    return kNames;
}

double to_milliseconds(const std::string& unit) {
    constexpr std::array<std::pair<std::string_view, double>, 4> kUnits{
        {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}}};
    for (const auto& [name, factor] : kUnits)
        if (name == unit) return factor;
    return 0;
}

}  // namespace

absl::StatusOr<Metrics> parse_micro_bench(const std::string& text) {
    // What stands before the object is somebody's greeting.
    const size_t begin = text.find('{');
    const auto told = nlohmann::json::parse(
        begin == std::string::npos ? std::string() : text.substr(begin), nullptr, false);
    const auto cases = told.is_object() ? told.value("benchmarks", nlohmann::json::array())
                                        : nlohmann::json::array();
    if (!cases.is_array() || cases.size() != 1 || !cases.front().is_object())
        return absl::FailedPreconditionError(
            fmt::format("{} cases were measured instead of one", cases.size()));
    const auto& one = cases.front();
    if (one.contains("error_occurred") && one["error_occurred"] == true)
        return absl::FailedPreconditionError(
            one.contains("error_message") ? one["error_message"].dump() : "it failed");
    Metrics metrics;
    for (const auto& [name, value] : one.items())
        if (value.is_number() && !bookkeeping().contains(name)) metrics[name] = value;
    const auto time = one.find("real_time");
    const auto unit = one.find("time_unit");
    if (time != one.end() && time->is_number() && unit != one.end() && unit->is_string())
        metrics["total_ms"] = time->get<double>() * to_milliseconds(*unit);
    return metrics;
}

absl::StatusOr<Metrics> run_micro_bench(const std::string& bin_dir, const MicroBench& bench,
                                        Duration limit, int cancel_fd) {
    const std::string path = fmt::format("{}/{}", bin_dir, bench.program);
    if (!std::filesystem::exists(path))
        return absl::NotFoundError(fmt::format("there is no {}: build it", path));
    const std::vector<std::string> words =
        bench.program == "fault_bench"
            ? std::vector<std::string>{path, "--json", "--case", bench.name}
            : std::vector<std::string>{path, "--benchmark_format=json",
                                       fmt::format("--benchmark_filter=^{}(/|$)", bench.name)};
    GODWIT_ASSIGN_OR_RETURN(Child child, Child::start(words));
    GODWIT_ASSIGN_OR_RETURN(const int code, child.wait(Clock::system().now() + limit, cancel_fd));
    const std::string err = child.err();
    if (code != 0)
        return absl::FailedPreconditionError(fmt::format("{}: exit code {}: {}", bench.program,
                                                         code, err.substr(0, kMaxMicroComplaint)));
    auto metrics = parse_micro_bench(child.out());
    if (metrics.ok()) return metrics;
    return absl::Status(
        metrics.status().code(),
        fmt::format("{}: {}: {} {}", bench.program, bench.name,
                    std::string(metrics.status().message()), err.substr(0, kMaxMicroComplaint)));
}

}  // namespace godwit
