// Drain: how it comes back after a lost connection, or in a restarted agent.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
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

void Drain::give_up_in_doubt(const std::string& why) {
    const std::lock_guard lock(mutex_);
    given_up_ = why;
    retry_asked_ = true;
    retry_.notify_all();
    if (awaited_ == nullptr) return;
    awaited_->update([&](Seen& seen) {
        if (!seen.resumed_at && !seen.refused) seen.refused = why;
    });
}

std::optional<std::string> Drain::given_up() {
    const std::lock_guard lock(mutex_);
    return given_up_;
}

void Drain::set_awaited(SourceSignals* signals) {
    const std::lock_guard lock(mutex_);
    awaited_ = signals;
    // The destination has answered since: its word counts, and not the operator's.
    if (signals != nullptr) given_up_.reset();
}

// False when `stop` was asked for.
bool Drain::pause(Duration length, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    retry_.wait_for(lock, stop, length, [this] { return std::exchange(retry_asked_, false); });
    return !stop.stop_requested();
}

absl::StatusOr<Drain::Connection> Drain::reconnect(const std::stop_token& stop, Outcome& outcome) {
    const MonotonicTime lost_at = Clock::system().now();
    const auto set_interrupted = [this](bool now) {
        const std::lock_guard lock(mutex_);
        interrupted_now_ = now;
    };
    set_interrupted(true);
    std::string last_said;
    while (true) {
        // At once, unless the last connection brought nothing over.
        if (pause_ > Duration::zero() && !pause(pause_, stop))
            return absl::CancelledError("the drain was stopped");
        pause_ = pause_ == Duration::zero() ? kFirstPause : std::min(pause_ * 2, kLongestPause);
        const absl::StatusOr<bool> connected = try_reconnect(outcome, stop);
        if (connected.ok()) {
            interrupted_ += Clock::system().now() - lost_at;
            set_interrupted(false);
            if (!*connected) return Connection{};
            plan_.log->message("drain", fmt::format("reconnected to {}; {} are still missing there",
                                                    plan_.destination.to_string(),
                                                    format_bytes(pending_.count() * kPageBytes)));
            return Connection{own_streams_.get(), own_signals_.get()};
        }
        // Asked once more, in vain.
        if (const auto why = given_up(); why && !resumed_) {
            outcome.end = End::kRefused;
            outcome.detail = *why;
            set_interrupted(false);
            return Connection{};
        }
        const std::string said(connected.status().message());
        if (said != last_said) {
            spdlog::warn("migration {}: {}; trying again", plan_.migration_id, said);
            plan_.log->message("drain", said + "; trying again");
        }
        last_said = said;
    }
}

// True: there are new streams, and what is missing is known. False: it has ended there.
absl::StatusOr<bool> Drain::try_reconnect(Outcome& outcome, const std::stop_token& stop) {
    GODWIT_ASSIGN_OR_RETURN(const v1::ReconnectResponse response,
                            peer_.reconnect(plan_.migration_id));
    const v1::QueryResponse& state = response.state();
    const bool resumed = state.state() == v1::INCOMING_STATE_RESUMED;
    if (resumed) note_resumed(Clock::system().now());
    awaits_resumed_ = !resumed;
    if (!state.draining()) {
        outcome.detail = state.detail();
        if (state.state() == v1::INCOMING_STATE_REFUSED)
            outcome.end = End::kRefused;
        else if (resumed)
            outcome.end = state.guest_gone() ? End::kGuestGone : End::kDrained;
        else
            return absl::UnavailableError(fmt::format("{} says {}", plan_.destination.to_string(),
                                                      v1::IncomingState_Name(state.state())));
        if (outcome.end == End::kDrained) outcome.postcopy = finish(state.postcopy());
        return false;
    }
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
    return true;
}

}  // namespace godwit
