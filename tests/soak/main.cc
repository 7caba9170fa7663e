#include <cstdio>

#include "engine/base/log.h"
#include "tests/soak/soak.h"

namespace godwit {
namespace {

int run(int argc, char** argv) {
    SoakOptions options;
    if (const auto code = parse_soak_options(argc, argv, options)) return *code;
    start_logging(options.lab.program, "error");
    std::printf("seed %llu\n", static_cast<unsigned long long>(options.seed));
    std::fflush(stdout);
    const auto lab = Lab::open(options.lab);
    if (!lab.ok()) {
        std::fprintf(stderr, "godwit-soak: %s\n", std::string(lab.status().message()).c_str());
        return 1;
    }
    Soak soak(options, **lab);
    const absl::Status status = soak.run();
    std::printf("%s\n", soak.summary().c_str());
    if (status.ok()) return 0;
    if (absl::IsCancelled(status)) return kInterrupted;
    std::fprintf(stderr, "godwit-soak: %s\n", std::string(status.message()).c_str());
    if (const absl::Status kept = soak.keep(); !kept.ok())
        std::fprintf(stderr, "godwit-soak: %s\n", std::string(kept.message()).c_str());
    return 1;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
