#include "engine/source/confirmation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace godwit {
namespace {

constexpr const char* kAwaited = "the destination's confirmation of a round";

// Of those in use, the streams that have not confirmed it.
std::vector<size_t> silent_streams(const std::vector<int64_t>& acked_rounds, size_t in_use,
                                   uint32_t marker) {
    std::vector<size_t> silent;
    for (size_t i = 0; i < in_use; ++i)
        if (acked_rounds[i] < int64_t{marker}) silent.push_back(i);
    return silent;
}

}  // namespace

bool Silence::note(const Signs& signs) {
    if (last_ != signs) {
        last_ = signs;
        looks_ = 0;
    }
    return ++looks_ > most_looks_;
}

absl::Status await_confirmation(SourceSignals& signals, const SourceStreams& streams,
                                uint32_t marker, const ConfirmationLimits& limits) {
    const MonotonicTime begin = Clock::system().now();
    const size_t in_use = streams.in_use();
    Silence silence(limits.most_looks);
    while (true) {
        const MonotonicTime next = Clock::system().now() + limits.look;
        const absl::Status status =
            signals
                .wait(
                    kAwaited, SourceSignals::Mind::kAll, std::min(limits.deadline, next),
                    [&](const SourceSignals::Seen& seen) { return seen.all_acked(marker, in_use); })
                .status();
        if (!absl::IsDeadlineExceeded(status)) return status;
        const MonotonicTime now = Clock::system().now();
        if (now >= limits.deadline)
            return absl::DeadlineExceededError(
                fmt::format("{} took longer than {:.1f} s", kAwaited,
                            std::chrono::duration<double>(limits.deadline - begin).count()));
        std::vector<int64_t> acked = signals.seen().acked_round;
        const auto waited_for = silent_streams(acked, in_use, marker);
        if (silence.note({.unacknowledged_bytes = streams.unacknowledged_bytes(),
                          .acked_rounds = std::move(acked)}))
            return absl::DeadlineExceededError(fmt::format(
                "the destination has not confirmed what was sent on data stream{} {}, and has "
                "given no sign of life for {:.0f} s: its agent hangs; see its log there, restart "
                "it, and try again",
                waited_for.size() == 1 ? "" : "s", fmt::join(waited_for, ", "),
                std::chrono::duration<double>(limits.look * limits.most_looks).count()));
    }
}

}  // namespace godwit
