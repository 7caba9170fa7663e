#include "bench/lab/json_lines.h"

#include <fmt/format.h>

#include <iostream>

namespace godwit {

absl::StatusOr<JsonLines> JsonLines::open(const std::string& path) {
    JsonLines lines;
    lines.to_stdout_ = path == "-";
    if (!path.empty() && !lines.to_stdout_) lines.file_.open(path, std::ios::trunc);
    if (lines.file_.fail()) return absl::NotFoundError(fmt::format("Cannot write {}", path));
    return lines;
}

absl::StatusOr<JsonLines> JsonLines::open_to_append(const std::string& path) {
    JsonLines lines;
    lines.file_.open(path, std::ios::app);
    if (lines.file_.fail()) return absl::NotFoundError(fmt::format("Cannot write {}", path));
    return lines;
}

void JsonLines::write(const nlohmann::json& line) {
    if (to_stdout_) std::cout << line.dump() << std::endl;
    if (file_.is_open()) file_ << line.dump() << std::endl;
}

}  // namespace godwit
