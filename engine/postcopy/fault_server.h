// FaultServer: answers the page faults of an incoming guest, and puts the pages that come in place.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
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

// Owns the thread "faults". For each fault: a page that is not missing is answered with zeros at
// once (never touched, or given back by the guest; if it has come meanwhile the kernel says so and
// it is woken); a missing one is asked for once, and waits for place().
//
// Life: create(), start() [answering as hold() says]; serve() when all stale pages are known and
// the source is frozen; connection_restored(); place() from any number of threads until
// missing.count() is 0; FaultMemory::unregister_all(); stop(). A restarted agent:
// MissingPages::open(), create(), start(), serve(), connection_restored(), which wakes what the
// dead agent had read.
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

    // Begins to answer. Errors: FailedPrecondition when it has begun before.
    absl::Status start();
    // Ends the thread. Faults stay unanswered from then on, and place() goes on working. Returns
    // what failure() says.
    absl::Status stop();

    // While the source still runs: every fault is answered with zeros and remembered.
    void hold();
    // From its return on no fault is answered by the rule of hold().
    void serve();
    // The pages that hold() had answered with zeros: stale, to be set in MissingPages and punched.
    // What is returned is forgotten. Complete once serve() has returned.
    PageSet take_zeroed();

    // Nothing is asked any more; faults are remembered. Waits for an ask() that is under way, so
    // the connection must be shut down before. Returns once the old Asker is not used any more.
    void connection_lost();
    // The first connection as well as a later one. Everything is asked anew: all ranges are woken,
    // so that faults come again; they keep the time at which they were first seen.
    absl::Status connection_restored(Asker& asker);

    // Puts the pages `present` of a chunk in place: those of `zero` are zeros, the others are
    // `raw`, one after another. Only pages that are missing are filled; the others are dropped and
    // counted. On hugetlbfs a missing chunk must come whole. Zeros that nobody waits for stay
    // holes.
    //
    // Errors: InvalidArgument (no such chunk, zero ⊄ present, raw of another size; nothing was
    // done); FaultMemory::fill's, after which the pages that were not placed are still missing.
    absl::Status place(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                       const ChunkMask& zero, std::span<const std::byte> raw, PageOrigin origin);

    // Whether the thread runs under SCHED_FIFO.
    [[nodiscard]] bool realtime() const { return realtime_; }
    [[nodiscard]] FaultStats stats() const { return meter_.snapshot(); }
    // Faults that wait for a page, and since when the oldest does.
    [[nodiscard]] size_t open_count() const { return open_count_; }
    [[nodiscard]] std::optional<MonotonicTime> oldest_open() const;
    // The first error of the thread: NotFound when QEMU is gone. Ok while all is well.
    [[nodiscard]] absl::Status failure() const;

  private:
    struct Group;  // up to 16 pages that are placed together

    FaultServer(FaultMemory& memory, MissingPages& missing, const Clock& clock, Wakeup wakeup);
    // The thread:
    void run(const std::stop_token& stop);
    absl::Status answer_events();
    absl::Status answer(const Fault& fault, MonotonicTime now);
    absl::Status answer_with_zeros(const Fault& fault);
    void ask_for(const Fault& fault, MonotonicTime now);
    // place():
    absl::Status check_pages(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                             const ChunkMask& zero, size_t raw_bytes) const;
    absl::Status place_group(const Group& group);
    absl::Status fill_group(const Group& group, uint64_t wanted, uint64_t& placed);
    absl::Status place_huge(BlockIndex block, ChunkIndex chunk, const ChunkMask& zero,
                            std::span<const std::byte> raw, PageOrigin origin);
    // The view in which somebody waits for a page of the word, 0 when nobody does.
    uint32_t view_of_open(BlockIndex block, size_t word, uint64_t pages);
    void close_faults(BlockIndex block, size_t word, uint64_t pages);
    void fail(const absl::Status& status);

    FaultMemory& memory_;
    MissingPages& missing_;
    const Clock& clock_;
    Wakeup wakeup_;
    FaultMeter meter_;

    AtomicPageSet claimed_;  // a thread is placing it
    AtomicPageSet open_;     // in table_
    AtomicPageSet zeroed_;   // by hold()'s rule

    // Held while events are answered; the thread sleeps without it.
    PriorityMutex gate_;
    bool serving_ = false;    // guarded by gate_
    Asker* asker_ = nullptr;  // guarded by gate_

    mutable PriorityMutex table_mutex_;
    FaultTable table_;      // guarded by table_mutex_
    absl::Status failure_;  // guarded by table_mutex_
    std::atomic<size_t> open_count_{0};
    std::atomic<bool> left_waiting_{false};  // a fault was read that nobody remembers

    Mapping huge_scratch_;      // one chunk, where a block is on hugetlbfs
    PriorityMutex huge_mutex_;  // of huge_scratch_

    std::atomic<bool> realtime_{false};
    bool started_ = false;
    std::jthread thread_;
};

}  // namespace godwit
