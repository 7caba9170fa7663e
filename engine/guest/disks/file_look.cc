#include "engine/guest/disks/file_look.h"

#include <fmt/format.h>

#include <atomic>
#include <memory>

#include "engine/base/late_call.h"

namespace godwit {
namespace {

// Each is a thread, and a peer may ask as often as it likes.
constexpr size_t kMostHanging = 64;

struct Looks {
    std::vector<HostFile> files;
    std::function<absl::Status(const HostFile&)> look;
    std::atomic<size_t> at{0};
    absl::Status status;  // read once all is over
};

}  // namespace

absl::Status look_at_files(std::vector<HostFile> files,
                           std::function<absl::Status(const HostFile&)> look, Duration limit) {
    if (files.empty()) return absl::OkStatus();
    if (const size_t hanging = late_calls_that_hang(); hanging >= kMostHanging)
        return absl::FailedPreconditionError(
            fmt::format("{} {} is not looked at: {} calls of this agent hang already, see its log",
                        files.front().what, files.front().path, hanging));
    const auto looks = std::make_shared<Looks>();
    looks->files = std::move(files);
    looks->look = std::move(look);
    const auto look_at_all = [looks] {
        for (size_t i = 0; i < looks->files.size() && looks->status.ok(); ++i) {
            looks->at = i;
            looks->status = looks->look(looks->files[i]);
        }
    };
    if (done_within(limit, "a look at files", look_at_all)) return looks->status;
    const HostFile& silent = looks->files[looks->at];
    return absl::FailedPreconditionError(
        fmt::format("{} {} does not answer within {:.0f} s: is the server of its file system gone?",
                    silent.what, silent.path, std::chrono::duration<double>(limit).count()));
}

}  // namespace godwit
