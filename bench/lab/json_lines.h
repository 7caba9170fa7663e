// JsonLines: what a benchmark found, a JSON object a line.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/status.h"

namespace godwit {

class JsonLines {
  public:
    // `path`: a file, which is emptied; "-": stdout; empty: nowhere. Error: NotFound.
    static absl::StatusOr<JsonLines> open(const std::string& path);
    // A file that goes on where it ends. Error: NotFound.
    static absl::StatusOr<JsonLines> open_to_append(const std::string& path);
    void write(const nlohmann::json& line);

  private:
    bool to_stdout_ = false;
    std::ofstream file_;
};

}  // namespace godwit
