#include "engine/report/event_log.h"

#include <chrono>

namespace godwit {

void EventLog::append(v1::MigrationEvent event) {
    const std::lock_guard lock(mutex_);
    if (finished_) return;
    event.set_sequence(next_sequence_++);
    if (event.has_progress()) {
        progress_ = std::move(event);
    } else if (events_.size() < kMaxEvents || event.has_report()) {
        finished_ = event.has_report();
        events_.push_back(std::move(event));
    }
    changed_.notify_all();
}

void EventLog::message(const std::string& phase, const std::string& text) {
    v1::MigrationEvent event;
    event.set_phase(phase);
    event.set_message(text);
    append(std::move(event));
}

void EventLog::round(const v1::Round& round) {
    v1::MigrationEvent event;
    event.set_phase("rounds");
    *event.mutable_round() = round;
    append(std::move(event));
}

void EventLog::progress(const v1::Progress& progress, const std::string& phase) {
    v1::MigrationEvent event;
    event.set_phase(phase);
    *event.mutable_progress() = progress;
    append(std::move(event));
}

void EventLog::finish(const v1::MigrationReport& report) {
    v1::MigrationEvent event;
    event.set_phase("done");
    *event.mutable_report() = report;
    append(std::move(event));
}

void EventLog::follow(const std::function<bool(const v1::MigrationEvent*)>& visit) {
    size_t next = 0;
    uint64_t last_progress = 0;
    while (true) {
        v1::MigrationEvent event;
        bool have = false;
        bool last = false;
        {
            std::unique_lock lock(mutex_);
            changed_.wait_for(lock, std::chrono::milliseconds(500), [&] {
                return next < events_.size() || progress_.sequence() > last_progress;
            });
            if (next < events_.size()) {
                event = events_[next++];
                have = true;
                last = event.has_report();
            } else if (progress_.sequence() > last_progress) {
                event = progress_;
                last_progress = event.sequence();
                have = true;
            }
        }
        if (!visit(have ? &event : nullptr) || last) return;
    }
}

bool EventLog::finished() const {
    const std::lock_guard lock(mutex_);
    return finished_;
}

v1::MigrationReport EventLog::report() const {
    const std::lock_guard lock(mutex_);
    return finished_ ? events_.back().report() : v1::MigrationReport();
}

}  // namespace godwit
