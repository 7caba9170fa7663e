#include "engine/guest/qemu/qmp_lines.h"

#include <fmt/format.h>

#include <utility>

#include "engine/base/units.h"

namespace godwit {

absl::Status QmpLines::check_length(size_t bytes) const {
    if (bytes <= max_line_bytes_) return absl::OkStatus();
    return absl::InternalError(
        fmt::format("QEMU wrote a QMP line of more than {}", format_bytes(max_line_bytes_)));
}

absl::Status QmpLines::append(std::string_view bytes,
                              absl::FunctionRef<absl::Status(std::string_view line)> take) {
    while (true) {
        // What is kept has no end of a line in it.
        const size_t end = bytes.find('\n');
        const std::string_view part = bytes.substr(0, end);
        GODWIT_RETURN_IF_ERROR(check_length(kept_.size() + part.size()));
        if (end == std::string_view::npos) {
            kept_.append(part);
            return absl::OkStatus();
        }
        std::string joined;
        if (!kept_.empty()) joined = std::move(kept_.append(part));
        kept_.clear();
        std::string_view line = joined.empty() ? part : std::string_view(joined);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (!line.empty()) GODWIT_RETURN_IF_ERROR(take(line));
        bytes.remove_prefix(end + 1);
    }
}

}  // namespace godwit
