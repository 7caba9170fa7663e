// IncomingMigration: one migration at its destination. What may come when:
// engine/handover/phases.h.
//
//   WAITING ─► COMMITTED ─► RESUMED        the guest is here (alive or crashed)
//      └──────────┴───────► REFUSED        never ran here and never will: its QEMU is gone
//
// A guest may resume before its last pages are there. Then the migration lives on after RESUMED:
// the streams may be lost and come again (a session each), until the last page is in place.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/base/thread_placement.h"
#include "engine/base/wait.h"
#include "engine/destination/commit_order.h"
#include "engine/destination/device_state_pipe.h"
#include "engine/destination/incoming_postcopy.h"
#include "engine/destination/ram_writer.h"
#include "engine/guest/hypervisor.h"
#include "engine/handover/journal.h"
#include "engine/handover/phases.h"
#include "engine/handover/step_hook.h"
#include "engine/verify/ram_hash.h"
#include "godwit/v1/transfer.pb.h"
#include "transport/codec/chunk_codec.h"
#include "transport/frame/bodies.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/stream_acceptor.h"
#include "transport/stream/tcp_listener.h"

namespace godwit {

class IncomingMigration final : private Asker, private CommitSteps {
  public:
    struct Dependencies {
        Hypervisor* hypervisor = nullptr;
        std::string state_dir;
        std::string listen_host;  // where the data port is opened
        RingKind ring = RingKind::kIoUring;
        ThreadPlacement placement;  // of threads that take pages in
        // Called once when the guest will never run here: the VM is dead and reaped.
        std::function<void(const std::string& vm_name)> on_refused;
        // Called once, before on_resumed, when the source is told that the last page came: the VM
        // is free in a moment.
        std::function<void(const std::string& vm_name)> on_settling;
        // Called once when the guest runs here, with all its pages.
        std::function<void(const std::string& vm_name)> on_resumed;
        StepHook at_step = no_hook;
    };

    // Starts the waiting QEMU and opens the data port; everything checkable was checked before.
    // Errors: Hypervisor::start's; FailedPrecondition when post-copy is needed and can't be done;
    // on error nothing is left.
    static absl::StatusOr<std::unique_ptr<IncomingMigration>> start(
        const v1::PrepareRequest& request, Dependencies dependencies);
    // Goes on where an earlier agent ended: COMMIT had come, and pages are missing. Errors: those
    // of IncomingPostcopy::recover(); the guest waits where it needs a page.
    static absl::StatusOr<std::unique_ptr<IncomingMigration>> recover(v1::JournalRecord record,
                                                                      const std::shared_ptr<Vm>& vm,
                                                                      Dependencies dependencies);
    // Aborts if it is still waiting; else waits for its end. A drain is left to the agent's
    // successor.
    ~IncomingMigration() override;
    IncomingMigration(const IncomingMigration&) = delete;
    IncomingMigration& operator=(const IncomingMigration&) = delete;

    [[nodiscard]] const SessionToken& token() const { return expected_.token; }
    [[nodiscard]] uint16_t data_port() const { return listener_.port(); }
    [[nodiscard]] const std::string& id() const { return record_.migration_id(); }
    [[nodiscard]] const std::shared_ptr<Vm>& vm() const { return vm_; }
    // Why the guest can't resume before its last pages are there; empty: it can.
    [[nodiscard]] const std::string& postcopy_problem() const { return postcopy_problem_; }

    // Ends it if COMMIT has not come, and waits until its QEMU is gone. Errors: FailedPrecondition
    // when COMMIT has come.
    absl::Status abort(const std::string& reason);
    [[nodiscard]] v1::QueryResponse state() const;
    // Lets the source come with new streams, if pages are missing here.
    v1::ReconnectResponse reconnect();
    // Its threads have done their work: resumed or refused, and nothing more will happen.
    [[nodiscard]] bool ended() const;

  private:
    // One set of connections.
    struct Session {
        std::vector<AcceptedStream> data;
        AcceptedStream urgent;
        std::unique_ptr<FrameWriter> writer;  // of the urgent stream
        CpuLatencyHold cpu_latency;           // of its own thread: as a guest waits for its frames
        void shutdown() const;
    };

    IncomingMigration(Dependencies dependencies, std::shared_ptr<Vm> vm, Journal journal,
                      TcpListener listener, Wakeup wakeup, RamWriter writer);
    absl::Status prepare_postcopy(v1::PostcopyUse use);
    void begin();

    // Life (incoming_migration.cc):
    void run();
    absl::StatusOr<std::shared_ptr<Session>> accept_session();
    absl::Status serve_session(Session& session);
    void break_session(const absl::Status& reason);
    void on_guest_event(const GuestEvent& event);
    void watch_guest(const std::stop_token& stop);
    // What was warned of.
    struct Said {
        std::optional<MonotonicTime> stall;  // the fault that was waited for
        bool failure = false;
    };
    void warn_of_stall(Said& said) const;
    absl::Status enter(v1::JournalPhase phase, const std::string& detail,
                       Journal::Durability durability = Journal::Durability::kPageCache);
    void prepare_cont(bool postcopy);
    [[nodiscard]] std::shared_ptr<Session> session() const;
    // Whether that frame may come now; goes on to the phase after it.
    absl::StatusOr<DestinationPhase> hear(StreamKind stream, FrameKind frame);
    void note_armed();
    [[nodiscard]] DestinationPhase phase() const;

    // Frames (incoming_frames.cc):
    void receive_pages(Session& session, AcceptedStream& stream);
    absl::Status receive_until_error(Session& session, AcceptedStream& stream);
    absl::Status note_damage(Session& session, const AcceptedStream& stream, DestinationPhase phase,
                             const Frame& frame);
    absl::Status take_pages(DestinationPhase phase, const Frame& frame, ChunkCodec& codec,
                            PageOrigin origin);
    absl::Status serve_urgent(Session& session);
    // From now until the session ends this host's CPUs wake quickly: the guest waits, or is about
    // to.
    void keep_cpus_awake(Session& session);
    absl::Status serve_frame(Session& session, const Frame& frame, DestinationPhase phase);
    absl::Status serve_postcopy_frame(Session& session, const Frame& frame, DestinationPhase phase);
    absl::Status write_device_state(std::span<const std::byte> bytes);
    absl::Status end_device_state(const Frame& frame);
    absl::Status answer_verify_chunks(Session& session, const Frame& frame);
    absl::Status answer_verify_pages(Session& session, const Frame& frame);

    // Ownership (incoming_commit.cc):
    absl::Status commit(bool run_guest);
    void note_resumed();
    void note_arrival();
    void release();
    void refuse(const absl::Status& reason);
    // CommitSteps:
    absl::Status note(v1::JournalPhase phase, const std::string& detail) override;
    absl::Status await_mapping_check() override;
    bool qemu_has_ended() override;
    absl::Status resume() override;
    bool has_run() override;
    bool wait_to_ask_again() override;
    absl::Status kill() override;
    void now_refused(const std::string& why) override;
    absl::Status tell_refused(const std::string& why) override;
    void at_step(std::string_view step) override { dependencies_.at_step(step); }

    // Drain (incoming_drain.cc):
    absl::Status ask(BlockIndex block, PageIndex page) override;
    void commit_while_serving(bool run_guest);
    void resume_until_it_runs(const std::stop_token& stop);
    void end_committed();
    void tell_resumed();
    absl::Status marker_came(Session& session);
    absl::Status send_missing(Session& session);
    absl::Status finish_drain(Session& session);
    absl::Status end_drain();
    absl::Status begin_next_session(Session& session);
    bool await_next_session();
    void note_guest_gone();
    void note_unended(const absl::Status& why);  // under mutex_
    void settle();
    [[nodiscard]] bool is_draining() const;

    const Dependencies dependencies_;
    const std::shared_ptr<Vm> vm_;
    const Journal journal_;
    TcpListener listener_;
    const Wakeup wakeup_;
    RamWriter writer_;
    std::vector<uint64_t> chunk_counts_;
    std::unique_ptr<IncomingPostcopy> postcopy_;  // none: it can't be done
    std::string postcopy_problem_;

    std::unique_ptr<DeviceStatePipe> device_state_;
    std::future<absl::StatusOr<std::vector<ChunkHash>>> hashes_;
    std::vector<ChunkHash> known_hashes_;

    std::atomic<uint64_t> damaged_in_drain_{0};
    std::atomic<bool> cpus_awake_{false};  // they were, once
    std::mutex journal_mutex_;             // held while the journal is written; before mutex_
    // Guarded by journal_mutex_: without pages that follow, and with.
    std::array<Journal::Prepared, 2> prepared_cont_;
    absl::Status last_noted_;  // the same: what is said once
    static constexpr const char* kRanEarly =
        "somebody let the guest run at the destination before it was there (virsh resume), and it "
        "was ended";
    void end_early_guest();  // under mutex_
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    // Guarded by mutex_:
    HelloExpectation expected_;
    v1::JournalRecord record_;
    DestinationPhase phase_ = DestinationPhase::kLive;
    v1::IncomingState state_ = v1::INCOMING_STATE_WAITING;
    std::string detail_;
    absl::Status broken_;                     // why the session was shut down
    std::shared_ptr<Session> session_;        // none while there are no connections
    bool session_asked_ = false;              // the source is about to come with new streams
    bool reconnect_said_resumed_ = false;     // the answer to Reconnect did
    bool resumed_told_ = false;               // the source of this session knows
    size_t markers_ = 0;                      // of this push
    std::optional<std::string> load_status_;  // "completed", "failed", "gone"
    // Once that is "completed": whether every mapping of the guest's memory has its faults served.
    std::optional<absl::Status> mappings_;
    bool vm_gone_ = false;
    bool ran_here_ = false;   // QEMU said RESUME
    bool ran_early_ = false;  // before COMMIT
    bool ending_ = false;     // the agent ends
    bool ended_ = false;

    std::stop_source collapsing_;
    std::jthread watcher_;
    std::vector<std::jthread> receivers_;
    std::jthread committer_;
    std::jthread main_;
};

}  // namespace godwit
