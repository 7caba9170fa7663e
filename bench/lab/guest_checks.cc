#include "bench/lab/guest_checks.h"

#include <fmt/format.h>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kGoesOnLimit = std::chrono::seconds(20);
constexpr Duration kCheckGuestEvery = std::chrono::milliseconds(5);
constexpr Duration kCheckGuestSoon = std::chrono::milliseconds(1);
constexpr Duration kCheckLimit = std::chrono::seconds(1);

// The guest's own word on its memory, `when`.
absl::Status well(const Mailbox& mailbox, const char* when) {
    if (mailbox.state != static_cast<uint64_t>(GuestState::kRunning))
        return absl::DataLossError(fmt::format("the guest {}: {}", when, mailbox.message));
    for (const MailboxVcpu& vcpu : mailbox.vcpus)
        if (vcpu.errors != 0)
            return absl::DataLossError(
                fmt::format("the guest found {} bad pages {}: the first is {}, kind {}",
                            vcpu.errors, when, vcpu.first_bad_page, vcpu.first_bad_kind));
    return absl::OkStatus();
}

}  // namespace

absl::Status well_before(Engine& engine) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    return well(mailbox, "before the move");
}

absl::Status ticks_there(Engine& engine, int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox first, reader.read());
    const MonotonicTime deadline = Clock::system().now() + kGoesOnLimit;
    while (Clock::system().now() < deadline) {
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + kCheckGuestSoon);
        if (absl::IsCancelled(waited)) return waited;
        GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
        if (mailbox.vcpus[0].tick > first.vcpus[0].tick) return absl::OkStatus();
    }
    return absl::DeadlineExceededError("the guest does not run after the move");
}

absl::Status goes_on(Engine& engine, uint64_t last_tick, uint64_t turns, int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox first, reader.read());
    const MonotonicTime begin = Clock::system().now();
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
        GODWIT_RETURN_IF_ERROR(well(mailbox, "after the move"));
        const MailboxVcpu& vcpu = mailbox.vcpus[0];
        const Duration elapsed = Clock::system().now() - begin;
        const bool checked = vcpu.checked >= first.vcpus[0].checked + mailbox.ws_pages;
        if (vcpu.tick > last_tick + turns && (checked || elapsed > kCheckLimit))
            return absl::OkStatus();
        if (elapsed > kGoesOnLimit)
            return absl::DeadlineExceededError(fmt::format(
                "the guest does not go on after the move: tick {} was seen, it is at {}", last_tick,
                vcpu.tick));
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + kCheckGuestEvery);
        if (absl::IsCancelled(waited)) return waited;
    }
}

}  // namespace godwit
