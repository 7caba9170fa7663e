// EventLog: what a migration says while it runs; every watcher replays it from the start.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/thread_annotations.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

// Thread-safe. Rounds, messages and the report are kept (a migration has a bounded number); of
// progress only the newest is, so that a watcher that comes late is not flooded.
class EventLog {
  public:
    void message(const std::string& phase, const std::string& text);
    void round(const v1::Round& round);
    void progress(const v1::Progress& progress, const std::string& phase = "rounds");
    // The last event: watchers end after it.
    void finish(const v1::MigrationReport& report);

    // Calls `visit` for every event in order, waiting for new ones, until the last one, or until
    // `visit` returns false. `visit` also gets nullptr twice a second while nothing happens, so
    // that it can notice that its reader went away.
    void follow(const std::function<bool(const v1::MigrationEvent*)>& visit);

    [[nodiscard]] bool finished() const;
    // The report as it ended, empty before that.
    [[nodiscard]] v1::MigrationReport report() const;

  private:
    void append(v1::MigrationEvent event);

    // Generous: 1,000 rounds and a few messages each; more are dropped, never the report.
    static constexpr size_t kMaxEvents = 4096;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<v1::MigrationEvent> events_ GODWIT_GUARDED_BY(mutex_);
    v1::MigrationEvent progress_ GODWIT_GUARDED_BY(mutex_);
    uint64_t next_sequence_ GODWIT_GUARDED_BY(mutex_) = 1;
    bool finished_ GODWIT_GUARDED_BY(mutex_) = false;
};

}  // namespace godwit
