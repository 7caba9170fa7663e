// SourceSignals: everything that can happen to an outgoing migration, in one place to wait on.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/guest/hypervisor.h"
#include "godwit/v1/report.pb.h"

namespace godwit {

// Thread-safe. The urgent stream's reader, the guest's listener and whoever cancels write to it;
// the migration's thread waits.
class SourceSignals {
  public:
    // What is known; a copy is handed out.
    struct Seen {
        std::optional<MonotonicTime> stopped_at;  // vCPUs stopped since forget_guest()
        std::optional<MonotonicTime> running_at;  // vCPUs run again since forget_guest()
        std::map<std::string, MonotonicTime> migration_status;  // since forget_guest()
        std::vector<int64_t> acked_round;                       // by data stream; -1: none yet
        std::optional<MonotonicTime> loaded_at;
        std::optional<MonotonicTime> resumed_at;
        std::optional<MonotonicTime> ready_for_faults_at;
        uint64_t missing_lists = 0;           // ended lists of missing pages
        std::optional<v1::Postcopy> drained;  // the last page is in place; what the drain was like
        std::optional<std::string> gone_there;  // the destination's QEMU ended after COMMIT
        std::optional<std::string> load_failed;
        std::optional<std::string> refused;
        bool operator_spoke = false;  // in doubt: of the guest's end there, or its return
        uint64_t verify_replies = 0;
        bool guest_gone = false;
        // QEMU began a migration that is none of ours: somebody else moves the guest.
        bool moved_by_others = false;
        bool cancelled = false;
        bool let_go_on = false;   // a migration that is held may switch over
        bool hold_ended = false;  // it never will: nobody has said so in time
        absl::Status connection;  // an error once a stream to the destination was lost

        [[nodiscard]] bool has_status(const char* status) const {
            return migration_status.contains(status);
        }
        // On the first so many data streams.
        [[nodiscard]] bool all_acked(int64_t round, size_t streams) const;
    };

    explicit SourceSignals(size_t data_streams) { seen_.acked_round.assign(data_streams, -1); }

    // Applies `change` to what is known and wakes the waiter.
    void update(const std::function<void(Seen&)>& change);
    void on_guest_event(const GuestEvent& event);
    // Forgets guest events: of an earlier migration of the same QEMU. The one that begins next is
    // ours.
    void forget_guest();
    // Forgets that the connection was lost: there is a new one.
    void forget_connection();

    // A migration that is held may switch over. False: end_hold() came first.
    bool let_go_on();
    // It ends without. False: let_go_on() came first.
    bool end_hold();

    [[nodiscard]] Seen seen() const;
    // Why the migration can't go on, whatever the guest does: cancelled, refused, connection lost,
    // somebody else moves it.
    [[nodiscard]] absl::Status problem() const;

    // Which bad news end a wait.
    enum class Mind {
        kAll,        // a lost connection, a refusal, a cancel, a dead guest
        kGuestOnly,  // a dead guest only: while rolling back, or in doubt
        kPeerOnly,   // a lost connection only: in a drain, when no guest is left here
    };
    // Waits until `done` holds. Errors: Cancelled; NotFound (the guest's process has ended);
    // Unavailable (connection lost); Aborted (load failed or refused, with the peer's words);
    // DeadlineExceeded ("<what> took longer than …").
    absl::StatusOr<Seen> wait(const char* what, Mind mind, MonotonicTime deadline,
                              const std::function<bool(const Seen&)>& done);

  private:
    static absl::Status bad_news(const Seen& seen, Mind mind);
    static absl::Status problem_of(const Seen& seen);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Seen seen_;               // guarded by mutex_
    bool ours_next_ = false;  // guarded by mutex_
};

}  // namespace godwit
