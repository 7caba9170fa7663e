// SourceStreams: the source's ends of a migration's connections.
//
// Memory of a data stream, whatever the size of the guest and the speed of the link: 6 MiB of
// staging (three buffers of a frame: one that is sent, one that is filled, one to pack into), its
// share of the delta cache, and what the kernel holds of its socket, at most 1 MiB where the round
// trip is short (fit_tcp_buffers), else at most net.ipv4.tcp_wmem (4 MiB by default). Its other end
// has a frame and an unpacked chunk, 4 MiB, and at most 4 MiB or net.ipv4.tcp_rmem in its socket.
// A frame that leaves without a copy is read by the kernel until it is acknowledged; the next one
// begins before that, but the one after it is not filled: the three buffers are enough.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "engine/base/cpu_latency.h"
#include "engine/handover/phases.h"
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

// What the destination asks for once the guest may wait for pages there. Called on the urgent
// stream's reader, which is the thread that serves faults: it must not wait for anything else.
class PageRequests {
  public:
    virtual ~PageRequests() = default;
    // Answers on the urgent stream. Errors: the stream's, or the RAM file's.
    virtual absl::Status page_requested(BlockIndex block, PageIndex page) = 0;
    // These have to be sent (again): after a reconnection, or a push that did not bring all.
    virtual void pages_missing(const std::vector<ChunkPages>& list) = 0;
};

// N data streams and the urgent stream, which has index N. Acknowledgements and the destination's
// answers go to `signals`.
class SourceStreams {
  public:
    struct Target {
        std::string migration_id;
        std::string host;
        uint16_t port = 0;
        std::string session_token;
        uint16_t stream_count = 1;
        RateLimiter* limiter = nullptr;  // must outlive it; none: as fast as it goes
        TcpOptions tcp;
        // Data streams come from these in turn; empty: from where the host's routes say, as the
        // urgent stream does.
        std::vector<std::string> source_addresses;
        Compression compression = Compression::kAuto;
        uint32_t generation = 0;
        std::vector<uint64_t> chunk_counts;  // by block
        SourcePhase phase = SourcePhase::kRounds;
        PageRequests* requests = nullptr;  // needed from the first …Served phase on
        // Called before anything is received.
        std::function<void(SourceStreams&)> on_made;
    };
    // Connects and greets on every stream. Errors: connect_tcp's, client_hello's.
    static absl::StatusOr<std::unique_ptr<SourceStreams>> connect(Target target,
                                                                  SourceSignals& signals,
                                                                  MonotonicTime deadline);
    ~SourceStreams();
    SourceStreams(const SourceStreams&) = delete;
    SourceStreams& operator=(const SourceStreams&) = delete;

    struct DataStream {
        std::unique_ptr<TcpChannel> channel;
        std::unique_ptr<FrameWriter> writer;
        std::optional<PageSender> sender;
    };
    [[nodiscard]] std::vector<DataStream>& data() { return data_; }
    // How many of them carry pages: the first so many; all, if nothing else was said. Changed only
    // between rounds: a chunk may travel on another stream then.
    void use(size_t count) { in_use_ = count; }
    [[nodiscard]] size_t in_use() const { return in_use_; }
    [[nodiscard]] FrameWriter& urgent() { return *urgent_writer_; }
    [[nodiscard]] Bytes sent_bytes() const;
    // What the destination's host has not acknowledged of what was sent on the data streams.
    [[nodiscard]] Bytes unacknowledged_bytes() const;
    // On how many data streams large frames leave without a copy, and of one of them why (not).
    // While none of them sends.
    struct ZeroCopy {
        uint32_t streams = 0;
        std::string explanation;
    };
    [[nodiscard]] ZeroCopy zero_copy() const;

    // What the destination may answer (phases.h): anything else is a breach of the protocol and
    // ends the connection.
    void enter(SourcePhase phase) { phase_ = phase; }
    [[nodiscard]] SourcePhase phase() const { return phase_; }
    // Before the first …Served phase.
    void serve(PageRequests& requests) { target_.requests = &requests; }
    void expect_acks_up_to(uint32_t round) { last_round_ = round; }
    void expect_verify_reply() { ++verify_replies_due_; }
    // A loss is noticed sooner: somebody waits for pages.
    absl::Status shorten_timeouts();
    // From now until the connection ends this host's CPUs wake that quickly: the guest is about to
    // wait for what comes here. Where the host does not allow it, it is logged and left.
    void keep_cpus_awake(CpuLatencyLimit limit);
    [[nodiscard]] bool cpus_awake() const;
    // Whether the thread that answers faults got real-time priority.
    [[nodiscard]] bool realtime() const { return realtime_; }

    // Verify answers of the destination since the last call, in order. Any thread.
    std::vector<FrameBytes> take_verify_replies();

    // What came damaged to the destination since the last call; once a round is confirmed, all of
    // it. A page is named once. Any thread.
    struct Damage {
        std::vector<ChunkPages> pages;
        uint64_t frames = 0;
    };
    Damage take_damage();

    // Counts bytes against the bandwidth that were sent without waiting for it.
    void charge(Bytes bytes) {
        if (target_.limiter != nullptr) target_.limiter->charge(bytes);
    }
    // What a frame of pages should have at most, so that the limit is kept to within a second.
    [[nodiscard]] Bytes frame_bytes() const {
        return target_.limiter == nullptr ? kChunkBytes : target_.limiter->frame_bytes();
    }
    // Asked for once it is shut down: for who waits for bandwidth.
    [[nodiscard]] std::stop_token stopping() const { return stopping_.get_token(); }

    // Makes every blocked send and receive fail. Any thread.
    void shutdown();
    // The same, and waits for the thread that reads. Not on that thread.
    void close();

  private:
    SourceStreams(Target target, SourceSignals& signals)
        : target_(std::move(target)), signals_(signals) {}
    absl::Status open_all(const FrameRoute& route, const SessionToken& token,
                          MonotonicTime deadline);
    [[nodiscard]] absl::StatusOr<std::unique_ptr<TcpChannel>> open(const FrameRoute& route,
                                                                   const SessionToken& token,
                                                                   MonotonicTime deadline) const;
    absl::Status open_data(DataStream& stream, const FrameRoute& route, const SessionToken& token,
                           MonotonicTime deadline) const;
    void read_urgent(FrameReader& reader);
    absl::Status handle(const Frame& frame);
    absl::Status note(const Frame& frame);
    absl::Status note_drain(const Frame& frame);
    absl::Status note_damage(const Frame& frame);

    Target target_;
    SourceSignals& signals_;
    std::stop_source stopping_;
    std::vector<DataStream> data_;
    size_t in_use_ = 0;
    std::unique_ptr<TcpChannel> urgent_channel_;
    std::unique_ptr<FrameWriter> urgent_writer_;
    std::atomic<int64_t> last_round_{-1};
    std::atomic<SourcePhase> phase_{SourcePhase::kRounds};
    std::atomic<bool> realtime_{false};
    mutable std::mutex cpu_latency_mutex_;
    CpuLatencyHold cpu_latency_;  // guarded by cpu_latency_mutex_
    bool ended_ = false;          // the same: nobody waits any more
    bool cpus_awake_ = false;     // the same: they were, once
    std::atomic<int64_t> verify_replies_due_{0};
    std::mutex replies_mutex_;
    std::vector<FrameBytes> replies_;  // guarded by replies_mutex_
    std::mutex damage_mutex_;
    // Guarded by damage_mutex_; by place, so that it has a bound:
    std::map<std::pair<BlockIndex, ChunkIndex>, ChunkMask> damaged_;
    uint64_t damaged_frames_ = 0;
    std::jthread reader_;
};

}  // namespace godwit
