// QmpVm: a running QEMU over QMP: what every driver of QEMUs shares.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/thread_annotations.h"
#include "engine/base/wait.h"
#include "engine/guest/hypervisor.h"
#include "engine/guest/qemu/process.h"
#include "engine/guest/qemu/qmp_session.h"

namespace godwit {

// The contract of each call is in engine/guest/hypervisor.h; a driver adds what the VM is, and how
// it is ended. Destroying it leaves QEMU running.
//
// The QMP session is made anew when it was lost: after a restart in the middle of a drain QEMU may
// answer nothing until its page faults are served, and the VM is there all the same. Events between
// two sessions are lost; where a session tells of its end (QmpSession::kLost) and somebody listens,
// it is made anew at once, and where QEMU's migration has got to meanwhile is told as an event. A
// listener that is set after QEMU's end is told kGone at once.
class QmpVm : public Vm {
  public:
    ~QmpVm() override;

    // Begins a QMP session within `limit` unless there is one. Errors: as execute().
    absl::Status connect(Duration limit);
    // Destination: capabilities for a load, and RAM made empty.
    absl::Status prepare_device_load();
    [[nodiscard]] bool ended() const;

    [[nodiscard]] pid_t pid() const override { return parts_.process.pid; }
    [[nodiscard]] std::string incarnation() const override;
    [[nodiscard]] int gone_fd() const override { return parts_.pidfd.get(); }
    [[nodiscard]] std::span<const RamBlock> ram_blocks() const override {
        return parts_.ram_blocks;
    }
    absl::StatusOr<std::vector<pid_t>> vcpu_threads() override;
    absl::StatusOr<RunState> run_state() override;
    absl::StatusOr<std::string> migration_status() override;
    void set_listener(std::function<void(const GuestEvent&)> listener) override;
    absl::StatusOr<std::vector<std::string>> migration_blockers() override;
    absl::StatusOr<std::vector<std::string>> plugged_memory() override;
    absl::Status drain_block_io(Duration limit) override;
    absl::Status prepare_device_save(UniqueFd out) override;
    absl::Status begin_device_save() override;
    absl::Status finish_device_save() override;
    void forgo_device_save() override { break_save_stream(); }
    absl::Status roll_back(bool run, Duration limit) override;
    absl::Status begin_device_load(UniqueFd in) override;
    void foresee_resume() override;
    absl::Status resume(Duration limit) override;
    absl::Status announce() override;
    absl::Status kill(Duration limit) override;

  protected:
    using OpenSession = std::function<absl::StatusOr<std::unique_ptr<QmpSession>>(
        MonotonicTime deadline, QmpSession::OnEvent on_event)>;
    struct Parts {
        std::string name;  // of the VM
        ProcessId process;
        UniqueFd pidfd;
        std::vector<RamBlock> ram_blocks;
        OpenSession open_session;
    };
    // Watches the process; opens no session yet.
    QmpVm(Parts parts, Wakeup wakeup);

    // One QMP command; NotFound with the reason when QEMU has ended.
    absl::StatusOr<Json> command(std::string_view name, Json arguments, Duration limit,
                                 int fd_to_pass = -1);
    // The session's foresee(), where there is a session.
    void foresee(std::string_view name, const Json& arguments);
    // Waits until the process has ended, and reaps it where it is our child.
    absl::Status await_end(MonotonicTime deadline);

  private:
    absl::StatusOr<std::shared_ptr<QmpSession>> session(MonotonicTime deadline);
    absl::Status explain(absl::Status status);
    absl::Status set_capabilities(std::initializer_list<const char*> names);
    absl::StatusOr<std::string> run_state_text(Duration limit);
    absl::StatusOr<std::string> migration_status_within(Duration limit);
    absl::Status cont_and_confirm(MonotonicTime deadline);
    // Of a QEMU that has ended: whether the guest that it has loaded has certainly never run in it.
    bool never_ran_what_it_loaded();
    void break_save_stream();

    void on_qmp_event(const QmpEvent& event, MonotonicTime at);
    void deliver(const GuestEvent& event);
    // Events so far; wait_event() returns once there are more, or after `limit`.
    uint64_t event_count();
    uint64_t resume_count();
    // Whether the guest has been seen to resume since there were so many RESUME events, and not to
    // stop again.
    bool runs_since(uint64_t resumes_before);
    void wait_event(uint64_t seen_count, Duration limit);

    void watch_process(const std::stop_token& stop);
    void regain_session();
    [[nodiscard]] bool has_listener();
    // Why the process ended; it has.
    std::string end_reason();

    const Parts parts_;
    const Wakeup wakeup_;

    std::mutex listener_mutex_;  // held while the listener runs
    std::function<void(const GuestEvent&)> listener_ GODWIT_GUARDED_BY(listener_mutex_);

    std::mutex event_mutex_;
    std::condition_variable event_arrived_;
    uint64_t event_count_ GODWIT_GUARDED_BY(event_mutex_) = 0;
    std::string last_migration_ GODWIT_GUARDED_BY(event_mutex_);  // "" before the first event
    uint64_t resume_count_ GODWIT_GUARDED_BY(event_mutex_) = 0;   // RESUME events
    bool runs_ GODWIT_GUARDED_BY(event_mutex_) = false;  // RESUME was the last of RESUME and STOP
    // Our copy of the socket that device state goes out by, until it is all out: shutting it down
    // frees a QEMU that hangs in a write, and then answers no QMP.
    UniqueFd save_socket_ GODWIT_GUARDED_BY(event_mutex_);

    std::mutex end_mutex_;
    std::string end_reason_ GODWIT_GUARDED_BY(end_mutex_);

    std::mutex session_mutex_;
    std::condition_variable connected_;
    bool connecting_ GODWIT_GUARDED_BY(session_mutex_) = false;  // by one caller, without the mutex
    std::shared_ptr<QmpSession> session_ GODWIT_GUARDED_BY(session_mutex_);
    // In which the load began; none once another was opened.
    std::shared_ptr<QmpSession> load_session_ GODWIT_GUARDED_BY(session_mutex_);

    // Seen by a rollback that is not done yet.
    std::atomic<bool> gave_up_disks_{false};
    std::atomic<bool> lost_{false};  // the session, and nobody has made another yet
    std::jthread watcher_;
};

}  // namespace godwit
