// Drain: the source after the freeze of a post-copy migration. Answers faults, pushes the rest, and
// goes on until the destination has every page, whatever is lost on the way: drain_order.h.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/thread_placement.h"
#include "engine/postcopy/page_server.h"
#include "engine/postcopy/pending_pages.h"
#include "engine/postcopy/push_order.h"
#include "engine/report/event_log.h"
#include "engine/source/drain_order.h"
#include "engine/source/streams.h"
#include "engine/source/transfer_client.h"
#include "godwit/v1/report.pb.h"

namespace godwit {

// The blocks must not change any more when the first page is asked for.
class Drain final : public PageRequests, private PageSink {
  public:
    struct Plan {
        std::string migration_id;
        HostPort destination;
        uint16_t streams = 2;       // data streams that are opened
        size_t streams_in_use = 0;  // of these, for pages; 0: all
        // Must outlive it; none: unlimited. Faults are answered at once all the same.
        RateLimiter* limiter = nullptr;
        // Called on run()'s thread when the limit has changed.
        std::function<void(Bytes bytes_per_s)> on_limit;
        // Called when the destination has answered: what an operator said counts no more. Not
        // while give_up() calls `say`, so that both know the same word; it may not call the drain.
        std::function<void()> on_word_forgotten;
        TcpOptions tcp;  // of streams that it has to open
        std::vector<std::string> source_addresses;
        ThreadPlacement placement;         // of the threads that push
        std::span<const RamBlock> blocks;  // must outlive it
        EventLog* log = nullptr;           // must outlive it
        bool has_left = false;             // an earlier agent has heard RESUMED
        // In doubt: whether the guest's QEMU has not ended here, or may not have. Any thread.
        std::function<bool()> is_guest_here = [] { return true; };
    };
    static absl::StatusOr<std::unique_ptr<Drain>> create(Plan plan);
    ~Drain() override;

    // What the destination does not have, and of that what will be wanted first. Before the
    // destination may ask for anything. A restarted agent knows neither: the destination does.
    void set_missing(const PageSet& missing, const PageSet& recent);
    // Answers what comes in on these streams, from now on.
    void serve(SourceStreams& streams);

    using End = DrainEnd;
    struct Outcome {
        End end = End::kStopped;
        std::string detail;        // the destination's words, or the operator's
        bool by_operator = false;  // with kGuestGone, kRefused
        v1::Postcopy postcopy;     // with kDrained
    };
    struct Connection {
        SourceStreams* streams = nullptr;
        SourceSignals* signals = nullptr;
    };
    // COMMIT was sent. `first`: what it was sent on; without streams: reconnect first. on_resumed
    // is called once, as soon as it is known that the guest runs at the destination.
    Outcome run(Connection first, const std::function<void(MonotonicTime)>& on_resumed,
                const std::stop_token& stop);

    // Tries to reconnect at once. False when nothing is interrupted. Any thread.
    bool retry_now();
    // An operator's word, for one whom nobody answers: kRefused counts in doubt, kNowhere there and
    // in an interrupted drain. Of no effect once the destination answers what it knows. `say` keeps
    // the word for those who ask this agent. False, and `say` is not called: the guest has left,
    // and nothing is interrupted. Errors: those of `say`. Any thread.
    absl::StatusOr<bool> give_up(Fate fate, const std::function<absl::Status()>& say);

    // Also when it has ended: bytes sent on connections of its own.
    [[nodiscard]] Bytes sent_bytes() const { return sent_bytes_; }

    absl::Status page_requested(BlockIndex block, PageIndex page) override;
    void pages_missing(const std::vector<ChunkPages>& list) override;

  private:
    explicit Drain(Plan plan);
    absl::Status send(const PageAnswer& answer) override;

    class Run;  // the steps of one run()
    using Step = DrainSteps::Step;
    [[nodiscard]] std::optional<Fate> given_up();
    void forget_word();
    void forget_word_locked();  // with mutex_ held
    [[nodiscard]] bool has_left() const { return resumed_ || plan_.has_left; }
    // Whose RESUMED is waited for, in a way that give_up() can end; none: nobody's.
    void set_awaited(SourceSignals* signals);
    Step push(Connection connection, const std::stop_token& stop, Outcome& outcome);
    absl::Status push_share(SourceStreams& streams, size_t index, std::span<const ChunkPlace> share,
                            const std::stop_token& stop);
    absl::Status push_chunk(PageSender& sender, const ChunkPlace& place,
                            const std::stop_token& stop);
    ChunkMask take_pages(const ChunkPlace& place, PageIndex& page, uint64_t max);
    absl::Status push_pages(PageSender& sender, const ChunkPlace& place, const ChunkMask& wanted,
                            const std::stop_token& stop);
    void report_progress();
    void note_limit();
    void note_resumed(MonotonicTime at);
    void set_interrupted(bool now);
    // False when `stop` was asked for.
    bool wait_to_reconnect(const std::stop_token& stop);
    // New streams, and the list of what is missing there.
    absl::StatusOr<Connection> connect(const v1::ReconnectResponse& response, bool resumed,
                                       const std::stop_token& stop);
    bool pause(Duration length, const std::stop_token& stop);
    void yield_to_faults() const;
    v1::Postcopy finish(const v1::Postcopy& theirs) const;

    const Plan plan_;
    TransferClient peer_;
    PendingPages pending_;
    std::unique_ptr<PageServer> server_;
    Mapping answer_;   // head and pages of an answer
    PageSet to_push_;  // what the order is made of; written before a push begins
    PageSet recent_;
    uint64_t missing_pages_ = 0;
    Bytes limit_ = 0;  // as on_limit knows it
    std::function<void(MonotonicTime)> on_resumed_;

    // The connection in use: streams_ is set while no reader runs.
    SourceStreams* streams_ = nullptr;
    std::unique_ptr<SourceSignals> own_signals_;
    std::unique_ptr<SourceStreams> own_streams_;
    std::atomic<uint32_t> answering_{0};  // faults that are being answered just now
    std::atomic<Bytes> sent_bytes_{0};

    bool resumed_ = false;  // written under mutex_, by run()'s thread
    MonotonicTime resumed_at_{};
    MonotonicTime started_at_{};
    uint32_t interruptions_ = 0;
    Duration interrupted_{};
    Duration pause_{};  // before the next try to reconnect
    uint64_t missing_there_ = std::numeric_limits<uint64_t>::max();  // as its last list had it

    std::mutex mutex_;
    std::condition_variable_any retry_;
    bool interrupted_now_ = false;      // guarded by mutex_
    bool retry_asked_ = false;          // guarded by mutex_
    std::optional<Fate> given_up_;      // guarded by mutex_
    SourceSignals* awaited_ = nullptr;  // guarded by mutex_: who may still say RESUMED, in doubt
};

}  // namespace godwit
