// EventBoard: the QMP events of both QEMUs of one migration, and waiting for one of them.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/wait.h"
#include "engine/guest/qemu/qmp_client.h"

namespace godwit {

enum class Side { kSource, kDestination };

struct SeenEvent {
    Side side = Side::kSource;
    std::string name;
    std::string status;                 // of MIGRATION, else empty
    int64_t pass = 0;                   // of MIGRATION_PASS, else 0
    std::chrono::microseconds stamp{};  // QEMU's wall clock, the same clock on both sides
    MonotonicTime at;                   // when it was read here
};

struct WantedEvent {
    Side side = Side::kSource;
    std::string_view name;
    std::string_view status;  // empty: any
    int64_t pass = 0;         // at least
};

// listener() may be called by any thread and its result is called by QMP readers; waiting is for
// one thread.
class EventBoard {
  public:
    // `cancel_fd` (-1: none) becoming readable ends every wait. Errors: eventfd's.
    static absl::StatusOr<std::unique_ptr<EventBoard>> create(int cancel_fd);

    // For a QmpClient; the board must outlive it.
    QmpClient::OnEvent listener(Side side);
    // A wait also ends when this process does.
    void watch(int pidfd) { pidfds_.push_back(pidfd); }

    // The first event of that kind, seen already or to come. Errors: DeadlineExceeded; Cancelled;
    // Aborted when the migration has failed or a watched process has ended.
    absl::StatusOr<SeenEvent> wait(const WantedEvent& wanted, MonotonicTime deadline);

    // All so far.
    [[nodiscard]] std::vector<SeenEvent> seen();

  private:
    EventBoard(Wakeup wakeup, int cancel_fd) : wakeup_(std::move(wakeup)), cancel_fd_(cancel_fd) {}
    absl::Status wait_more(MonotonicTime deadline);

    const Wakeup wakeup_;
    const int cancel_fd_;
    std::vector<int> pidfds_;
    std::mutex mutex_;
    std::vector<SeenEvent> events_;
};

// From one stamp to the other, in milliseconds.
double ms_between(const SeenEvent& begin, const SeenEvent& end);

}  // namespace godwit
