#include "bench/micro/transport/against.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace godwit::bench {
namespace {

double timed(const std::function<void(size_t)>& work, size_t number) {
    const auto begin = std::chrono::steady_clock::now();
    work(number);
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin)
        .count();
}

double median(std::vector<double>& values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

}  // namespace

void run(benchmark::State& state, const Against& pair) {
    std::vector<double> work;
    std::vector<double> limit;
    size_t number = 0;
    for (auto _ : state) {
        // Who is first alternates: an interrupt's or a throttle's victim is chosen by chance.
        if (number % 2 == 0) limit.push_back(timed(pair.limit, number));
        work.push_back(timed(pair.work, number));
        if (number % 2 != 0) limit.push_back(timed(pair.limit, number));
        state.SetIterationTime(work.back() * 1e-9);
        ++number;
    }
    const auto bytes = static_cast<double>(pair.bytes);
    const double work_ns = median(work) / bytes;
    const double limit_ns =
        median(limit) / (pair.limit_bytes == 0 ? bytes : static_cast<double>(pair.limit_bytes));
    state.counters["ns_per_B"] = work_ns;
    state.counters["limit_ns_per_B"] = limit_ns;
    state.counters["ratio"] = work_ns / limit_ns;
}

}  // namespace godwit::bench
