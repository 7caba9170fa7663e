#include "engine/source/signals.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "engine/base/units.h"

namespace godwit {

bool SourceSignals::Seen::all_acked(int64_t round, size_t streams) const {
    return std::ranges::all_of(std::span(acked_round).first(streams),
                               [round](int64_t acked) { return acked >= round; });
}

void SourceSignals::update(const std::function<void(Seen&)>& change) {
    const std::lock_guard lock(mutex_);
    change(seen_);
    changed_.notify_all();
}

void SourceSignals::on_guest_event(const GuestEvent& event) {
    update([&](Seen& seen) {
        switch (event.kind) {
            case GuestEventKind::kStop:
                seen.stopped_at = event.at;
                break;
            case GuestEventKind::kResume:
                seen.running_at = event.at;
                break;
            case GuestEventKind::kMigration:
                seen.migration_status.emplace(event.detail, event.at);
                if (!ours_next_ && (event.detail == "setup" || event.detail == "active"))
                    seen.moved_by_others = true;
                break;
            case GuestEventKind::kGone:
                seen.guest_gone = true;
                break;
            default:
                break;
        }
    });
}

void SourceSignals::forget_guest() {
    update([this](Seen& seen) {
        ours_next_ = true;
        seen.stopped_at.reset();
        seen.running_at.reset();
        seen.migration_status.clear();
    });
}

void SourceSignals::forget_connection() {
    update([](Seen& seen) { seen.connection = absl::OkStatus(); });
}

bool SourceSignals::let_go_on() {
    bool in_time = false;
    update([&](Seen& seen) { in_time = seen.let_go_on = seen.let_go_on || !seen.hold_ended; });
    return in_time;
}

bool SourceSignals::end_hold() {
    bool ended = false;
    update([&](Seen& seen) { ended = seen.hold_ended = seen.hold_ended || !seen.let_go_on; });
    return ended;
}

SourceSignals::Seen SourceSignals::seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
}

absl::Status SourceSignals::bad_news(const Seen& seen, Mind mind) {
    if (mind == Mind::kPeerOnly)
        return annotate(seen.connection, "The connection to the destination was lost");
    if (seen.guest_gone) return absl::NotFoundError("the guest's QEMU has ended by itself");
    return mind == Mind::kGuestOnly ? absl::OkStatus() : problem_of(seen);
}

absl::Status SourceSignals::problem() const { return problem_of(seen()); }

absl::Status SourceSignals::problem_of(const Seen& seen) {
    if (seen.cancelled) return absl::CancelledError("cancelled");
    if (seen.moved_by_others)
        return absl::AbortedError(
            "somebody else has begun to migrate the guest (virsh migrate?), and goes on");
    if (seen.load_failed)
        return absl::AbortedError("the destination could not load the device state: " +
                                  *seen.load_failed);
    if (seen.refused) return absl::AbortedError("the destination refused: " + *seen.refused);
    return annotate(seen.connection, "The connection to the destination was lost");
}

absl::StatusOr<SourceSignals::Seen> SourceSignals::wait(
    const char* what, Mind mind, MonotonicTime deadline,
    const std::function<bool(const Seen&)>& done) {
    const MonotonicTime begin = Clock::system().now();
    std::unique_lock lock(mutex_);
    while (true) {
        // Done counts before bad news: an answer that came before the connection broke is an
        // answer.
        if (done(seen_)) return seen_;
        GODWIT_RETURN_IF_ERROR(bad_news(seen_, mind));
        if (changed_.wait_until(lock, deadline) == std::cv_status::timeout && !done(seen_) &&
            bad_news(seen_, mind).ok())
            return absl::DeadlineExceededError(
                fmt::format("{} took longer than {:.1f} s", what,
                            std::chrono::duration<double>(deadline - begin).count()));
    }
}

}  // namespace godwit
