// QmpSession: one conversation with a QEMU in QMP, whichever way its monitor is reached.
#pragma once

#include <functional>
#include <string_view>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/guest/qemu/qmp_message.h"

namespace godwit {

// Thread-safe. Events are not queued: on_event is called for each on a thread of the session; it
// must not block and must not call into the session. Once destroyed, a session calls it no more.
class QmpSession {
  public:
    using OnEvent = std::function<void(const QmpEvent&, MonotonicTime at)>;

    QmpSession() = default;
    virtual ~QmpSession() = default;

    // The name of an event that a session may tell as its last: it is over, and QEMU may live on.
    static constexpr const char* kLost = "GODWIT_SESSION_LOST";
    QmpSession(const QmpSession&) = delete;
    QmpSession& operator=(const QmpSession&) = delete;

    // Sends a command and waits for its reply; passes `fd_to_pass` along (the caller keeps its
    // own). Errors: QEMU's (see qmp_error), DeadlineExceeded after `limit` (the command may still
    // be carried out), Unavailable when the session is lost, ResourceExhausted when too many wait.
    virtual absl::StatusOr<Json> execute(std::string_view command, Json arguments, Duration limit,
                                         int fd_to_pass) = 0;
    // Has QEMU read the command ahead but for its end, so that execute() of the same one takes
    // little: its monitor reads byte by byte, 14 µs each. Any other command takes it back first;
    // one that was only foreseen is never carried out. Where that can't be done, nothing happens.
    virtual void foresee(std::string_view /*command*/, const Json& /*arguments*/) {}
    // Why the session is over; ok while it is not.
    [[nodiscard]] virtual absl::Status state() const = 0;
    // Waits until the session is over and every event of it was delivered; false: not within
    // `limit`.
    [[nodiscard]] virtual bool wait_closed(Duration limit) const = 0;
    // Waits until the session is over. True: QEMU ended it, and every event that it ever told in it
    // was delivered. False: that is not known, or not within `limit`.
    [[nodiscard]] virtual bool wait_told_all(Duration /*limit*/) const { return false; }
};

}  // namespace godwit
