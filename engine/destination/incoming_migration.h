// IncomingMigration: one migration at its destination.
//
//   WAITING ─► COMMITTED ─► RESUMED        the guest is here (alive or crashed)
//      └──────────┴───────► REFUSED        never ran here and never will: its QEMU is gone
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/base/wait.h"
#include "engine/destination/ram_writer.h"
#include "engine/guest/hypervisor.h"
#include "engine/handover/journal.h"
#include "engine/handover/step_hook.h"
#include "engine/verify/ram_hash.h"
#include "godwit/v1/transfer.pb.h"
#include "transport/frame/bodies.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/stream_acceptor.h"
#include "transport/stream/tcp_listener.h"

namespace godwit {

class IncomingMigration {
  public:
    struct Dependencies {
        Hypervisor* hypervisor = nullptr;
        std::string state_dir;
        std::string listen_host;  // where the data port is opened
        // Called once when the guest will never run here: the VM is dead and reaped.
        std::function<void(const std::string& vm_name)> on_refused;
        std::function<void(const std::string& vm_name)> on_resumed;
        StepHook at_step = no_hook;
    };

    // Starts the waiting QEMU and opens the data port; everything checkable was checked before.
    // Errors: Hypervisor::start's; on error nothing is left.
    static absl::StatusOr<std::unique_ptr<IncomingMigration>> start(
        const v1::PrepareRequest& request, Dependencies dependencies);
    // Aborts if it is still waiting; else waits for its end.
    ~IncomingMigration();
    IncomingMigration(const IncomingMigration&) = delete;
    IncomingMigration& operator=(const IncomingMigration&) = delete;

    [[nodiscard]] const SessionToken& token() const { return expected_.token; }
    [[nodiscard]] uint16_t data_port() const { return listener_.port(); }
    [[nodiscard]] const std::string& id() const { return record_.migration_id(); }
    [[nodiscard]] const std::shared_ptr<Vm>& vm() const { return vm_; }

    // Ends it if COMMIT has not come, and waits until its QEMU is gone. Errors: FailedPrecondition
    // when COMMIT has come.
    absl::Status abort(const std::string& reason);
    [[nodiscard]] v1::QueryResponse state() const;
    // Its threads have done their work: resumed or refused, and nothing more will happen.
    [[nodiscard]] bool ended() const;

  private:
    IncomingMigration(Dependencies dependencies, std::shared_ptr<Vm> vm, Journal journal,
                      TcpListener listener, Wakeup wakeup, RamWriter writer);

    void run();
    absl::Status accept_streams();
    absl::Status serve_urgent();
    absl::Status serve_frame(const Frame& frame);
    absl::Status write_device_state(std::span<const std::byte> bytes);
    absl::Status answer_verify_chunks(const Frame& frame);
    absl::Status answer_verify_pages(const Frame& frame);
    void receive_pages(AcceptedStream& stream);
    absl::Status receive_until_error(AcceptedStream& stream);
    void report_load(const std::stop_token& stop);
    void on_guest_event(const GuestEvent& event);
    absl::Status commit(bool run_guest);
    absl::Status resume_guest(bool run);
    absl::Status refuse_commit(const absl::Status& reason);
    void refuse(const absl::Status& reason);
    void break_streams(const absl::Status& reason);
    absl::Status enter(v1::JournalPhase phase, const std::string& detail);

    const Dependencies dependencies_;
    const std::shared_ptr<Vm> vm_;
    const Journal journal_;
    TcpListener listener_;
    const Wakeup wakeup_;
    RamWriter writer_;
    HelloExpectation expected_;
    std::vector<uint64_t> chunk_counts_;

    std::vector<AcceptedStream> streams_;  // by index; the last is the urgent stream
    std::unique_ptr<FrameWriter> urgent_;
    UniqueFd device_state_;  // our end of QEMU's incoming stream
    Bytes device_state_bytes_ = 0;
    std::future<absl::StatusOr<std::vector<ChunkHash>>> hashes_;
    std::vector<ChunkHash> known_hashes_;

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    // Guarded by mutex_:
    v1::JournalRecord record_;
    v1::IncomingState state_ = v1::INCOMING_STATE_WAITING;
    std::string detail_;
    absl::Status broken_;                     // why the streams were shut down
    bool channels_open_ = false;              // streams_ is complete
    std::optional<std::string> load_status_;  // "completed", "failed", "gone"
    bool vm_gone_ = false;
    bool ran_here_ = false;  // QEMU said RESUME
    bool ended_ = false;

    std::jthread loader_;
    std::vector<std::jthread> receivers_;
    std::jthread main_;
};

}  // namespace godwit
