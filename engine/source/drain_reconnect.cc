// Drain: how it comes back after a lost connection, or in a restarted agent.
#include <algorithm>

#include "engine/source/drain.h"

namespace godwit {
namespace {

using Mind = SourceSignals::Mind;
using Seen = SourceSignals::Seen;

constexpr Duration kFirstPause = std::chrono::milliseconds(50);
// A destination that comes back is found within this; asking costs it next to nothing.
constexpr Duration kLongestPause = std::chrono::seconds(2);
constexpr Duration kReconnectLimit = std::chrono::seconds(5);
constexpr Duration kListLimit = std::chrono::seconds(60);

}  // namespace

bool Drain::retry_now() {
    const std::lock_guard lock(mutex_);
    if (!interrupted_now_) return false;
    retry_asked_ = true;
    retry_.notify_all();
    return true;
}

absl::StatusOr<bool> Drain::give_up(Fate fate, const std::function<absl::Status()>& say) {
    const std::lock_guard lock(mutex_);
    if (has_left() && !interrupted_now_) return false;
    GODWIT_RETURN_IF_ERROR(say());
    given_up_ = fate;
    retry_asked_ = true;
    retry_.notify_all();
    if (awaited_ == nullptr) return true;
    awaited_->update([](Seen& seen) { seen.operator_spoke = true; });
    return true;
}

std::optional<Fate> Drain::given_up() {
    const std::lock_guard lock(mutex_);
    return given_up_;
}

void Drain::forget_word() {
    const std::lock_guard lock(mutex_);
    forget_word_locked();
}

void Drain::forget_word_locked() {
    given_up_.reset();
    if (plan_.on_word_forgotten) plan_.on_word_forgotten();
}

void Drain::set_awaited(SourceSignals* signals) {
    const std::lock_guard lock(mutex_);
    awaited_ = signals;
    // The destination has answered since: its word counts, and not the operator's.
    if (signals != nullptr) forget_word_locked();
}

void Drain::set_interrupted(bool now) {
    const std::lock_guard lock(mutex_);
    interrupted_now_ = now;
}

// False when `stop` was asked for.
bool Drain::pause(Duration length, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    retry_.wait_for(lock, stop, length, [this] { return std::exchange(retry_asked_, false); });
    return !stop.stop_requested();
}

// At once, unless the last connection brought nothing over.
bool Drain::wait_to_reconnect(const std::stop_token& stop) {
    if (pause_ > Duration::zero() && !pause(pause_, stop)) return false;
    pause_ = pause_ == Duration::zero() ? kFirstPause : std::min(pause_ * 2, kLongestPause);
    return true;
}

absl::StatusOr<Drain::Connection> Drain::connect(const v1::ReconnectResponse& response,
                                                 bool resumed, const std::stop_token& stop) {
    if (own_streams_) own_streams_->close();
    own_streams_.reset();
    streams_ = nullptr;
    own_signals_ = std::make_unique<SourceSignals>(plan_.streams);
    pending_.clear_all();
    clear_pages(to_push_);
    GODWIT_ASSIGN_OR_RETURN(
        own_streams_,
        SourceStreams::connect(
            {.migration_id = plan_.migration_id,
             .host = plan_.destination.host,
             .port = static_cast<uint16_t>(response.data_port()),
             .session_token = response.session_token(),
             .stream_count = plan_.streams,
             .limiter = plan_.limiter,
             .tcp = plan_.tcp,
             .source_addresses = plan_.source_addresses,
             .generation = response.generation(),
             .chunk_counts = chunk_counts(plan_.blocks),
             .phase = resumed ? SourcePhase::kDraining : SourcePhase::kCommittedServed,
             .requests = this,
             .on_made = [this](SourceStreams& streams) { streams_ = &streams; }},
            *own_signals_, Clock::system().now() + kReconnectLimit));
    own_streams_->keep_cpus_awake(plan_.placement.cpu_latency);
    if (plan_.streams_in_use > 0) own_streams_->use(plan_.streams_in_use);
    const std::stop_callback wake(stop, [this] { own_signals_->update([](Seen&) {}); });
    GODWIT_RETURN_IF_ERROR(own_signals_
                               ->wait("the list of missing pages", Mind::kPeerOnly,
                                      Clock::system().now() + kListLimit,
                                      [&stop](const Seen& seen) {
                                          return seen.missing_lists > 0 || seen.drained ||
                                                 seen.gone_there || stop.stop_requested();
                                      })
                               .status());
    if (stop.stop_requested()) return absl::CancelledError("the drain was stopped");
    // Fewer than at the last list: pages did get there.
    if (const uint64_t missing = pending_.count(); missing < missing_there_) {
        pause_ = Duration::zero();
        missing_there_ = missing;
    }
    if (missing_pages_ == 0) missing_pages_ = pending_.count();
    return Connection{own_streams_.get(), own_signals_.get()};
}

}  // namespace godwit
