#include "bench/lab/scratch.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>

namespace godwit {

absl::StatusOr<Scratch> Scratch::create(const std::string& directory) {
    std::string pattern = directory + "/gw-lab-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr)
        return errno_status(errno, fmt::format("Cannot create a directory in {}", directory));
    return Scratch(std::move(pattern));
}

Scratch::~Scratch() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
}

}  // namespace godwit
