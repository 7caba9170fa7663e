// QmpLines: what comes from a QMP socket, cut into lines. No I/O.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/base/status.h"

namespace godwit {

// Not thread-safe. Keeps the beginning of a line whose end has not come, and nothing else.
class QmpLines {
  public:
    // No answer that we ask for is near this; a peer that writes more is broken.
    static constexpr size_t kMaxLineBytes = size_t{16} << 20;

    explicit QmpLines(size_t max_line_bytes = kMaxLineBytes) : max_line_bytes_(max_line_bytes) {}

    // Calls `take` for each line that these bytes complete: without its end, and not for empty
    // ones. Errors: Internal for a line that is longer than it may be, whether its end has come or
    // not; those of `take`. After an error the stream is of no use any more.
    absl::Status append(std::string_view bytes,
                        absl::FunctionRef<absl::Status(std::string_view line)> take);

    [[nodiscard]] size_t kept_bytes() const { return kept_.size(); }

  private:
    absl::Status check_length(size_t bytes) const;

    size_t max_line_bytes_;
    std::string kept_;
};

}  // namespace godwit
