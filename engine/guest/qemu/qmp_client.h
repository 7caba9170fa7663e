// QmpClient: one QMP session with a QEMU over its unix socket.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"
#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"
#include "engine/guest/qemu/qmp_session.h"

namespace godwit {

// Thread-safe. A thread named "qmp-reader" reads replies and events. Events are not queued: the
// reader calls on_event for each, which must not block and must not call execute() or stop().
class QmpClient final : public QmpSession {
  public:
    // Calls in flight: the engine, the agent's API and a rollback make a handful.
    static constexpr size_t kMaxPending = 64;

    // Connects, waits for the greeting and negotiates capabilities. Errors: connect's,
    // DeadlineExceeded, Unavailable when QEMU closes the connection, Internal when it speaks no
    // QMP.
    static absl::StatusOr<std::unique_ptr<QmpClient>> connect(const std::string& path,
                                                              MonotonicTime deadline,
                                                              OnEvent on_event);
    // The same on a socket that is connected already.
    static absl::StatusOr<std::unique_ptr<QmpClient>> handshake(UniqueFd socket,
                                                                MonotonicTime deadline,
                                                                OnEvent on_event);
    ~QmpClient() override;

    // Also Cancelled after stop().
    absl::StatusOr<Json> execute(std::string_view command, Json arguments, Duration limit,
                                 int fd_to_pass = -1) override;

    void foresee(std::string_view command, const Json& arguments) override;

    [[nodiscard]] absl::Status state() const override;
    [[nodiscard]] bool wait_closed(Duration limit) const override;
    [[nodiscard]] bool wait_told_all(Duration limit) const override;
    // Ends the session: every waiter gets Cancelled. Returns when the reader has ended.
    void stop();

  private:
    struct Pending {
        std::optional<QmpReply> reply;
    };
    struct Call {
        uint64_t id = 0;
        std::string command;
        Json arguments;  // an object
    };

    QmpClient(UniqueFd socket, Wakeup wakeup, OnEvent on_event);
    absl::Status negotiate(MonotonicTime deadline);
    // A call that waits for its reply; its id is `id` unless that is 0. Returns the id.
    absl::StatusOr<uint64_t> begin_call(std::string_view command, uint64_t id);
    // The caller holds send_mutex_.
    absl::Status send(std::string_view bytes, MonotonicTime deadline, int fd_to_pass);
    void read_all();
    void take(QmpMessage message);
    void close_with(const absl::Status& reason);

    const UniqueFd socket_;
    const Wakeup wakeup_;
    const OnEvent on_event_;

    std::mutex send_mutex_;  // one command's bytes stay together; taken before mutex_
    // QEMU has all of it but the end.
    std::optional<Call> foreseen_ GODWIT_GUARDED_BY(send_mutex_);
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    bool greeted_ GODWIT_GUARDED_BY(mutex_) = false;
    bool reader_done_ GODWIT_GUARDED_BY(mutex_) = false;
    absl::Status closed_ GODWIT_GUARDED_BY(mutex_);
    uint64_t next_id_ GODWIT_GUARDED_BY(mutex_) = 1;
    std::map<uint64_t, Pending> pending_ GODWIT_GUARDED_BY(mutex_);

    std::jthread reader_;
};

}  // namespace godwit
