// ServiceClient: what the user of a guest sees of its move: a client of the guest's Redis that asks
// as soon as it was answered, and a ping every 10 ms.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/lab/statistics.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/wait.h"

namespace godwit {

// What the client has seen. Times are in the order in which they were.
struct ServiceSeen {
    std::vector<MonotonicTime> answers;  // to SET
    int lost_connections = 0;
    int lost_writes = 0;                 // answered, and not there at the end
    double disk_good = 0, disk_bad = 0;  // the guest's disk writer: rounds with fsync, by itself
    std::vector<MonotonicTime> pings;    // answered, when they were
    int pings_sent = 0;
};

class ServiceClient {
  public:
    struct Options {
        int name_space = -1;  // the threads go there; -1: they stay
        std::string address;
        uint16_t port = 6379;
    };
    // Waits until the service answers, then begins. Errors: DeadlineExceeded, Cancelled; those of
    // sockets.
    static absl::StatusOr<std::unique_ptr<ServiceClient>> start(const Options& options,
                                                                Duration limit, int cancel_fd);
    ~ServiceClient();
    ServiceClient(const ServiceClient&) = delete;
    ServiceClient& operator=(const ServiceClient&) = delete;

    // Ends both threads, after every write that was answered has been read once more. Errors:
    // Unavailable when the service does not answer any more.
    absl::StatusOr<ServiceSeen> stop();

  private:
    ServiceClient(Options options, Wakeup stopping)
        : options_(std::move(options)), stopping_(std::move(stopping)) {}
    void ask();
    void ping();

    const Options options_;
    const Wakeup stopping_;
    ServiceSeen seen_;       // the first thread's, but for the pings
    absl::Status verified_;  // the first thread's
    ServiceSeen pinged_;     // the second thread's
    std::jthread asker_, pinger_;
};

// When the client was told that the guest is to move, and when it had moved.
struct MoveTimes {
    MonotonicTime begun, requested, done, ended;
};

// client_before_per_s, client_during_per_s, client_after_per_s: answers; client_blackout_ms: the
// longest time without one from the request on; client_lost_connections, client_lost_writes;
// ping_blackout_ms, pings_lost; disk_rounds, disk_errors.
Metrics service_metrics(const ServiceSeen& seen, const MoveTimes& times);

}  // namespace godwit
