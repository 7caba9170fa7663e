// SourceStreams: the source's ends of a migration's connections.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "engine/source/settings.h"
#include "engine/source/signals.h"
#include "godwit/v1/transfer.pb.h"
#include "transport/frame/bodies.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/page_sender.h"
#include "transport/stream/rate_limiter.h"
#include "transport/stream/tcp_channel.h"

namespace godwit {

// N data streams and the urgent stream, which has index N. Acknowledgements and the destination's
// answers go to `signals`.
class SourceStreams {
  public:
    // Connects and greets on every stream. Errors: connect_tcp's, client_hello's.
    static absl::StatusOr<std::unique_ptr<SourceStreams>> connect(
        const MigrationSettings& settings, const v1::PrepareResponse& prepared,
        SourceSignals& signals, MonotonicTime deadline);
    ~SourceStreams();
    SourceStreams(const SourceStreams&) = delete;
    SourceStreams& operator=(const SourceStreams&) = delete;

    struct DataStream {
        std::unique_ptr<TcpChannel> channel;
        std::unique_ptr<FrameWriter> writer;
        std::optional<PageSender> sender;
    };
    [[nodiscard]] std::vector<DataStream>& data() { return data_; }
    [[nodiscard]] FrameWriter& urgent() { return *urgent_writer_; }
    [[nodiscard]] Bytes sent_bytes() const;

    // What the destination may answer from now on; an answer that comes earlier is a breach of the
    // protocol and ends the migration.
    void expect_acks_up_to(uint32_t round) { last_round_ = round; }
    void expect_loaded() { device_state_is_due_ = true; }
    void expect_resumed() { commit_is_sent_ = true; }
    void expect_verify_reply() { ++verify_replies_due_; }

    // Verify answers of the destination since the last call, in order. Any thread.
    std::vector<FrameBytes> take_verify_replies();

    // Makes every blocked send and receive fail. Any thread.
    void shutdown();

  private:
    explicit SourceStreams(SourceSignals& signals, Bytes rate)
        : signals_(signals), limiter_(rate) {}
    void read_urgent(FrameReader& reader);
    bool handle(const Frame& frame);

    SourceSignals& signals_;
    RateLimiter limiter_;
    std::vector<DataStream> data_;
    std::unique_ptr<TcpChannel> urgent_channel_;
    std::unique_ptr<FrameWriter> urgent_writer_;
    std::atomic<int64_t> last_round_{-1};
    std::atomic<bool> device_state_is_due_{false};
    std::atomic<bool> commit_is_sent_{false};
    std::atomic<int64_t> verify_replies_due_{0};
    std::mutex replies_mutex_;
    std::vector<FrameBytes> replies_;  // guarded by replies_mutex_
    std::jthread reader_;
};

}  // namespace godwit
