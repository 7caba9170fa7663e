// Giving a guest back to the source, however long its QEMU takes to listen.
#pragma once

#include <functional>
#include <stop_token>

#include "engine/guest/hypervisor.h"

namespace godwit {

// Vm::roll_back() again and again, each second: a QEMU whose disk hangs answers nothing, and must
// be told when it does. One that refuses (an image lock that is still held, say) is asked for ten
// minutes. `trouble` hears why, once per reason. Errors: NotFound when QEMU has ended, Cancelled
// when `stop` was asked for, and the last refusal; only after the last two is the guest not back.
absl::Status roll_back_persistently(Vm& vm, bool run, const std::stop_token& stop,
                                    const std::function<void(const absl::Status& reason)>& trouble);

// The same, where time is the caller's.
struct RollBackTries {
    std::function<absl::Status(Duration limit)> roll_back;
    std::function<MonotonicTime()> now;
    // False when the agent ends.
    std::function<bool(Duration)> pause;
    std::function<void(const absl::Status& reason)> trouble;
};
absl::Status roll_back_persistently(const RollBackTries& tries);

}  // namespace godwit
