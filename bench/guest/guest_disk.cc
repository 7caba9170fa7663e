// guest-disk PATH SIZE [--seed N]: makes a raw disk image whose every sector the test guest knows.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "bench/guest/disk_image.h"

namespace {

absl::Status run(const std::string& path, const std::string& size, uint64_t seed) {
    GODWIT_ASSIGN_OR_RETURN(const godwit::Bytes bytes, godwit::parse_bytes(size));
    return godwit::make_disk_image(path, bytes, seed);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Makes a raw disk image whose every sector the test guest can check.");
    std::string path;
    std::string size;
    uint64_t seed = 1;
    app.add_option("path", path, "The image to write")->required();
    app.add_option("size", size, "Its size: 64M, 1GiB, …")->required();
    app.add_option("--seed", seed, "Two images differ when their seeds do");
    CLI11_PARSE(app, argc, argv);
    const absl::Status status = run(path, size, seed);
    if (status.ok()) return 0;
    std::fprintf(stderr, "guest-disk: %s\n", std::string(status.message()).c_str());
    return 1;
}
