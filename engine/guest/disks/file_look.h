// Looks at files whose server may be gone: NFS lets whoever asks wait until it is back.
#pragma once

#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

inline constexpr Duration kFileLimit = std::chrono::seconds(5);

struct HostFile {
    std::string what;  // for people: "disk", "kernel"
    std::string path;
    int access = R_OK;  // what access(2) is to be asked
};

// Calls `look` for each of `files` in turn, on a thread that is left behind where one does not
// answer within `limit` altogether; `look` must own what it uses. Errors: the first of its own;
// FailedPrecondition for a file that does not answer, and where so many do that nobody looks any
// more.
absl::Status look_at_files(std::vector<HostFile> files,
                           std::function<absl::Status(const HostFile&)> look,
                           Duration limit = kFileLimit);

}  // namespace godwit
