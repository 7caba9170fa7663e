// What a page costs on its way into a frame and out of it, each step beside the limit that it can't
// beat: counters ns_per_B, limit_ns_per_B and ratio.
//
//   transport_micro_bench [--set=256MiB] [google-benchmark options]
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string_view>

#include "bench/micro/transport/samples.h"

namespace {

// Takes --set=SIZE out of the arguments.
absl::Status take_set_size(int& argc, char** argv) {
    constexpr std::string_view kOption = "--set=";
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (!argument.starts_with(kOption)) continue;
        GODWIT_ASSIGN_OR_RETURN(const godwit::Bytes bytes,
                                godwit::parse_bytes(argument.substr(kOption.size())));
        if (bytes < 2 * godwit::kChunkBytes || bytes % godwit::kChunkBytes != 0)
            return absl::InvalidArgumentError("a set is at least 4 MiB, and a multiple of 2 MiB");
        godwit::bench::set_bytes_of_sets(bytes);
        for (int k = i; k + 1 < argc; ++k) argv[k] = argv[k + 1];
        --argc;
        return absl::OkStatus();
    }
    return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
    if (const absl::Status status = take_set_size(argc, argv); !status.ok()) {
        fmt::print(stderr, "transport_micro_bench: {}\n", std::string(status.message()));
        return 2;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
