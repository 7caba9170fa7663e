#include "engine/guest/libvirt/late_calls.h"

namespace godwit {

absl::Status libvirt_is_silent() {
    return absl::DeadlineExceededError("libvirt does not answer: does libvirtd hang?");
}

absl::Status status_within(Duration limit, std::function<absl::Status()> call) {
    auto status = std::make_shared<absl::Status>();
    if (!done_within(limit, kLibvirtCall, [status, call = std::move(call)] { *status = call(); }))
        return libvirt_is_silent();
    return *status;
}

}  // namespace godwit
