#include "engine/destination/probe_sink.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/wait.h"
#include "engine/destination/session_token.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/stream_acceptor.h"

namespace godwit {
namespace {

constexpr Duration kAskWhetherCancelled = std::chrono::milliseconds(100);

// Until the source closes the stream, or says something that has no place in a probe.
void take_frames(TcpChannel& channel, const FrameRoute& route) {
    FrameReader reader(channel, route);
    FrameWriter writer(channel, route);
    while (true) {
        const absl::StatusOr<Frame> frame = reader.next();
        if (!frame.ok()) return;
        if (frame->kind() == FrameKind::kPages) continue;
        if (frame->kind() != FrameKind::kMarker) return;
        const absl::StatusOr<MarkerBody> marker = MarkerBody::decode(frame->body);
        if (!marker.ok()) return;
        const FrameBytes ack =
            MarkerAckBody{.round = marker->round, .stream = route.stream}.encode();
        if (!writer.send(FrameKind::kMarkerAck, ack).ok()) return;
    }
}

// The threads that receive, and what they took.
class Receivers {
  public:
    void add(AcceptedStream stream) {
        {
            const std::lock_guard lock(mutex_);
            ++running_;
        }
        channels_.push_back(std::move(stream.channel));
        threads_.emplace_back([this, channel = channels_.back().get(), route = stream.route] {
            set_thread_name("probe-recv");
            take_frames(*channel, route);
            const std::lock_guard lock(mutex_);
            totals_.received_bytes += channel->received_bytes();
            totals_.cpu_time += thread_cpu_time();
            --running_;
            ended_.notify_all();
        });
    }

    // False: not yet.
    bool wait(Duration limit) {
        std::unique_lock lock(mutex_);
        return ended_.wait_for(lock, limit, [this] { return running_ == 0; });
    }

    void shutdown() {
        for (const auto& channel : channels_) channel->shutdown();
        threads_.clear();
    }

    [[nodiscard]] ProbeSink::Totals totals() {
        const std::lock_guard lock(mutex_);
        return totals_;
    }

  private:
    std::mutex mutex_;
    std::condition_variable ended_;
    size_t running_ = 0;        // guarded by mutex_
    ProbeSink::Totals totals_;  // guarded by mutex_
    std::vector<std::unique_ptr<TcpChannel>> channels_;
    std::vector<std::jthread> threads_;
};

}  // namespace

ProbeSink::ProbeSink(Options options, TcpListener listener)
    : options_(std::move(options)), token_(random_token()), listener_(std::move(listener)) {}

absl::StatusOr<ProbeSink> ProbeSink::create(Options options) {
    if (options.streams < 1 || options.streams > kMostStreams)
        return absl::InvalidArgumentError(fmt::format("A probe of {} streams; it must be 1 to {}",
                                                      options.streams, kMostStreams));
    GODWIT_ASSIGN_OR_RETURN(TcpListener listener, TcpListener::bind(options.listen_host, 0));
    return ProbeSink(std::move(options), std::move(listener));
}

absl::StatusOr<ProbeSink::Totals> ProbeSink::run(const std::function<bool()>& cancelled) {
    const MonotonicTime deadline = Clock::system().now() + kLimit;
    // One index more than data streams: the last is the urgent one, which a probe has not.
    GODWIT_ASSIGN_OR_RETURN(
        StreamAcceptor acceptor,
        StreamAcceptor::create(listener_,
                               {.migration_id = frame_migration_id(options_.probe_id),
                                .stream_count = static_cast<uint16_t>(options_.streams + 1),
                                .token = token_},
                               {.ring = options_.ring}));
    Receivers receivers;
    absl::Status status;
    for (uint16_t taken = 0; taken < options_.streams && status.ok();) {
        const MonotonicTime now = Clock::system().now();
        if (cancelled()) status = absl::CancelledError("cancelled");
        if (now >= deadline) status = absl::DeadlineExceededError("the streams did not come");
        if (!status.ok()) break;
        absl::StatusOr<AcceptedStream> stream = acceptor.accept(now + kAskWhetherCancelled);
        if (stream.ok()) {
            receivers.add(*std::move(stream));
            ++taken;
        } else if (!absl::IsDeadlineExceeded(stream.status())) {
            status = stream.status();
        }
    }
    while (status.ok() && !receivers.wait(kAskWhetherCancelled)) {
        if (cancelled()) status = absl::CancelledError("cancelled");
        if (Clock::system().now() >= deadline)
            status = absl::DeadlineExceededError("the probe took too long");
    }
    receivers.shutdown();
    GODWIT_RETURN_IF_ERROR(annotate(status, "Cannot measure the link"));
    return receivers.totals();
}

}  // namespace godwit
