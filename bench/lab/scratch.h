// Scratch: a directory that is gone afterwards, with everything in it.
#pragma once

#include <string>

#include "engine/base/status.h"

namespace godwit {

class Scratch {
  public:
    // Below `directory`. Errors: mkdtemp's.
    static absl::StatusOr<Scratch> create(const std::string& directory);
    Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    Scratch& operator=(Scratch&&) = delete;
    ~Scratch();
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    explicit Scratch(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

}  // namespace godwit
