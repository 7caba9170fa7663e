// FaultServer: answers the page faults of an incoming guest, and puts the pages that come in place.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <semaphore>
#include <thread>

#include "engine/base/clock.h"
#include "engine/base/wait.h"
#include "engine/postcopy/atomic_page_set.h"
#include "engine/postcopy/fault_memory.h"
#include "engine/postcopy/fault_stats.h"
#include "engine/postcopy/fault_table.h"
#include "engine/postcopy/missing_pages.h"
#include "engine/postcopy/priority_mutex.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Sends a request for a page to the source. A seam.
class Asker {
  public:
    virtual ~Asker() = default;
    // On hugetlbfs `page` is the first of a chunk and all 512 are wanted, in one answer. Called on
    // the thread that serves faults, one call at a time; must not allocate nor wait for the answer.
    // After an error nothing is asked until connection_restored().
    virtual absl::Status ask(BlockIndex block, PageIndex page) = 0;
};

enum class FaultMode {
    kHold,   // the source still runs: every fault is answered with zeros and remembered
    kServe,  // what is missing is asked for
};

// Owns the thread "faults". For each fault under kServe: a page that is not missing is answered
// with zeros at once (never touched, or given back by the guest; if it has come meanwhile the
// kernel says so and it is woken); a missing one is asked for once, and waits for place().
//
// Life: create(); start(kHold) before anything is punched; serve() when the source is frozen;
// connection_restored(); place() from any number of threads until missing.count() is 0;
// FaultMemory::unregister_all(); stop(). A restarted agent: MissingPages::open(), create(),
// start(kServe), connection_restored(), which wakes whom the dead agent's faults left waiting.
//
// Allocates nothing after start() but for messages of errors. All calls are thread-safe.
class FaultServer {
  public:
    // All must outlive it. `memory` is registered, or will be before anything is punched.
    static absl::StatusOr<std::unique_ptr<FaultServer>> create(
        FaultMemory& memory, MissingPages& missing, const Clock& clock = Clock::system());
    ~FaultServer();
    FaultServer(const FaultServer&) = delete;
    FaultServer& operator=(const FaultServer&) = delete;

    // Begins to answer. In a drain the first fault already must find kServe: under kHold it would
    // be answered with zeros instead of the guest's page. Errors: FailedPrecondition when it has
    // begun before.
    absl::Status start(FaultMode mode);
    // Ends the thread. Faults stay unanswered from then on, and place() goes on working. Returns
    // what failure() says.
    absl::Status stop();

    // Goes over to kServe; there is no way back. From its return on no fault is answered by the
    // rule of kHold.
    void serve();
    // The pages that were answered with zeros under kHold: stale, to be set in MissingPages and
    // punched. What is returned is forgotten. Complete once serve() has returned.
    PageSet take_zeroed();

    // Nothing is asked any more; faults are remembered. Waits for an ask() that is under way, so
    // the connection must be shut down before. Returns once the old Asker is not used any more.
    void connection_lost();
    // The first connection as well as a later one. Everything is asked anew: all ranges are woken,
    // so that faults come again; they keep the time at which they were first seen.
    void connection_restored(Asker& asker);

    // Puts the pages `present` of a chunk in place: those of `zero` are zeros, the others are
    // `raw`, one after another. Only pages that are missing are filled; the others are dropped and
    // counted. On hugetlbfs a missing chunk must come whole. Zeros that nobody waits for stay
    // holes.
    //
    // Errors: InvalidArgument (no such chunk, zero ⊄ present, raw of another size; nothing was
    // done); FaultMemory::fill's: what was not placed is still missing, and was asked for already,
    // so the connection must be treated as lost for it to come again.
    absl::Status place(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                       const ChunkMask& zero, std::span<const std::byte> raw, PageOrigin origin);

    // Whether the thread runs under SCHED_FIFO.
    [[nodiscard]] bool realtime() const { return realtime_; }
    [[nodiscard]] FaultStats stats() const { return meter_.snapshot(); }
    // Faults that wait for a page, and since when the oldest does.
    [[nodiscard]] size_t open_count() const { return open_count_; }
    [[nodiscard]] std::optional<MonotonicTime> oldest_open() const;
    // Why faults are not answered any more: NotFound when QEMU is gone. Ok while all is well; a
    // host without memory is no failure (the fault is tried again until there is some), but is
    // counted.
    [[nodiscard]] absl::Status failure() const;

  private:
    struct Group;  // up to 16 pages that are placed together

    FaultServer(FaultMemory& memory, MissingPages& missing, const Clock& clock, Wakeup wakeup);
    // The thread (fault_server.cc):
    void run(const std::stop_token& stop);
    absl::Status answer_events();
    void answer(const Fault& fault, MonotonicTime now);
    [[nodiscard]] bool is_missing(const Fault& fault) const;
    void answer_with_zeros(const Fault& fault, bool remember);
    void wait_for(const Fault& fault, MonotonicTime now);
    // True when its page is to be asked for.
    bool remember(const Fault& fault, MonotonicTime now);
    void fail(const absl::Status& status);
    // place() (place_pages.cc):
    absl::Status check_pages(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                             const ChunkMask& zero, size_t raw_bytes) const;
    absl::Status place_group(const Group& group);
    absl::Status fill_group(const Group& group, uint64_t wanted, uint64_t& placed,
                            uint64_t& existing);
    absl::Status place_huge(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                            const ChunkMask& zero, std::span<const std::byte> raw,
                            PageOrigin origin);
    // A whole chunk in huge_scratch_.
    std::span<const std::byte> spread(const ChunkMask& zero, std::span<const std::byte> raw) const;
    // The view in which somebody waits for one of the pages, or the last one that faulted.
    uint32_t view_for(BlockIndex block, size_t word, uint64_t pages);
    // Ends the faults on pages that are in place, or (`zero`) may be holes.
    void answer_open(BlockIndex block, size_t word, uint64_t placed, uint64_t zero);
    void close_faults(BlockIndex block, size_t word, uint64_t pages);

    FaultMemory& memory_;
    MissingPages& missing_;
    const Clock& clock_;
    Wakeup wakeup_;
    FaultMeter meter_;

    AtomicPageSet claimed_;  // a thread is placing it
    AtomicPageSet open_;     // in table_
    AtomicPageSet zeroed_;   // by kHold's rule
    std::atomic<uint32_t> last_view_{0};

    // Held while events are answered; the thread sleeps without it.
    PriorityMutex gate_;
    bool serving_ = false;    // guarded by gate_
    Asker* asker_ = nullptr;  // guarded by gate_

    mutable PriorityMutex table_mutex_;
    FaultTable table_;        // guarded by table_mutex_
    absl::Status failure_;    // guarded by table_mutex_
    bool carries_stall_;      // guarded by table_mutex_: an earlier agent's stall may last
    MonotonicTime woken_at_;  // guarded by table_mutex_: when it comes again, if it does
    std::atomic<size_t> open_count_{0};
    std::atomic<bool> left_waiting_{false};  // faults were read that nobody remembers
    bool retry_ = false;                     // of the thread

    Mapping huge_scratch_;      // one chunk, where a block is on hugetlbfs
    PriorityMutex huge_mutex_;  // of huge_scratch_

    std::atomic<bool> realtime_{false};
    std::atomic<bool> started_{false};
    std::binary_semaphore runs_{0};
    std::jthread thread_;
};

}  // namespace godwit
