// MigrationRegistry: outgoing migrations of this agent, running and finished.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/source/kept_ram.h"
#include "engine/source/source_migration.h"
#include "godwit/v1/agent.pb.h"
#include "tools/godwitd/calibration_file.h"
#include "tools/godwitd/fixed_costs.h"
#include "tools/godwitd/found_guest.h"
#include "tools/godwitd/vm_registry.h"

namespace godwit {

// Thread-safe.
class MigrationRegistry {
  public:
    struct Options {
        std::string state_dir;
        std::string guard_program;
        std::string hypervisor_version;
        TrackerFactory make_tracker;
        ThrottleFactory make_throttle;
        bool track_unsettled = true;
        Duration freeze_limit = MigrationSettings{}.freeze_limit;
        RingKind ring = RingKind::kIoUring;
        ThreadPlacement placement;  // of threads that move pages
        StepHook at_step = no_hook;
    };
    // `calibration` must outlive it.
    MigrationRegistry(VmRegistry& vms, CalibrationFile& calibration, Options options);
    // Cancels what can be cancelled and waits for all.
    ~MigrationRegistry();

    // HOST:PORT of this agent, for reports; known once it listens.
    void set_own_address(const std::string& address);
    std::string own_address();

    // Reads the journals of an earlier agent: reports of finished migrations, and unfinished ones,
    // which it finishes or undoes. Call once, after the VMs were adopted.
    void recover();

    // Returns the id. The same id again is the same migration. Errors: InvalidArgument, NotFound
    // (the VM), FailedPrecondition (it is being migrated), ResourceExhausted.
    absl::StatusOr<std::string> start(const v1::MigrateRequest& request);
    // By id, or by VM name or UUID: its newest migration. Errors: NotFound.
    absl::Status cancel(const std::string& name);
    // As SourceMigration's.
    absl::Status switch_to_postcopy(const std::string& name);
    absl::Status proceed(const std::string& name);
    absl::Status resume(const std::string& name);
    // What an operator says of a guest in doubt, or (kNowhere) of one that has left and whose last
    // pages nobody asks for; `confirm` is the VM's name. The destination is asked once more.
    // Errors: InvalidArgument, FailedPrecondition; nothing has changed then.
    absl::Status resolve(const std::string& name, Fate fate, const std::string& confirm);
    // Whether an operator has said that a guest is here, and not at the destination, which asks;
    // and it runs here or will. False where its QEMU had ended before it could.
    bool given_back(const std::string& id);
    // Limits the bandwidth of a migration from now on; 0: no limit. Errors: also InvalidArgument,
    // FailedPrecondition when it has ended, or sends nothing any more.
    absl::Status limit(const std::string& name, Bytes bytes_per_second);
    absl::StatusOr<v1::MigrationReport> report(const std::string& name);
    std::vector<v1::MigrationReport> list();
    // Joins the threads of migrations that have ended.
    void sweep();
    // As EventLog::follow; a finished migration of an earlier agent has its report only.
    absl::Status watch(const std::string& name,
                       const std::function<bool(const v1::MigrationEvent*)>& visit);

    // The newest migrations that are kept; older ones are forgotten with their files.
    static constexpr size_t kMaxKept = 1000;
    // Running at once; each has its own threads and buffers.
    static constexpr size_t kMaxRunning = 32;

  private:
    struct Entry {
        std::string id;
        std::string vm;
        std::string uuid;  // its digits; empty: it has none
        std::string
            asked;  // what vm was called by whoever asked for it; empty: of an earlier agent
        std::shared_ptr<SourceMigration> migration;  // null: of an earlier agent
        v1::MigrationReport report;                  // once ended
        bool ended = false;
        // Of an earlier agent's migration that has not ended: what is known of it.
        bool in_doubt = false;
        bool committed = false;       // COMMIT was sent
        bool has_left = false;        // RESUMED was heard; its end is waited for, or asked about
        bool has_last_pages = false;  // and sends them, or will
        std::string pending;
        std::shared_ptr<EventLog> log;         // of what this agent does about it
        std::shared_ptr<RateLimiter> limiter;  // of that
        std::shared_ptr<Drain> drain;
        OperatorsWord operators_word;
        bool given_back = false;  // to the source, by an operator; guarded by mutex_
        std::weak_ptr<Vm> guest;  // of a doubt of an earlier agent: where it can be given back
        std::jthread thread;
    };

    absl::StatusOr<MigrationSettings> settings_of(const v1::MigrateRequest& request) const;
    absl::StatusOr<bool> reserve(const std::string& id, const std::string& vm,
                                 const std::string& asked);
    void run(const std::shared_ptr<Entry>& entry, const std::stop_token& stop);
    void end(Entry& entry, const v1::MigrationReport& report);
    void recover_one(const v1::JournalRecord& record);
    std::shared_ptr<Vm> hold_vm_of(const v1::JournalRecord& record);
    void finish_for_predecessor(const std::shared_ptr<Entry>& entry,
                                const v1::JournalRecord& record);
    void finish_native(Entry& entry, const v1::JournalRecord& record, bool is_here);
    void finish_doubt(const std::shared_ptr<Entry>& entry, v1::JournalRecord record,
                      const FoundGuest& guest, const std::stop_token& stop);
    std::optional<FateAnswer> ask_fate(const std::shared_ptr<Entry>& entry,
                                       v1::JournalRecord& record, const FoundGuest& guest,
                                       const std::function<bool()>& pages_came,
                                       const std::stop_token& stop);
    void conclude_fate(const std::shared_ptr<Entry>& entry, const v1::JournalRecord& record,
                       const FoundGuest& guest, const FateAnswer& answer,
                       const std::stop_token& stop);
    void note_left(Entry& entry, v1::JournalRecord& record);
    void finish_drain(const std::shared_ptr<Entry>& entry, v1::JournalRecord record,
                      const FoundGuest& guest, const LastPages& pages, const std::stop_token& stop);
    void await_end(const Entry& entry);
    void note_resolution(Entry& entry, v1::JournalRecord& record, Fate fate);
    void conclude(Entry& entry, v1::JournalRecord record, v1::MigrationReport report,
                  const std::stop_token& stop = {});
    void forget_oldest(const Entry& but_not);  // under mutex_
    std::shared_ptr<Entry> find(const std::string& name);
    // One that may still be in its live rounds. Errors: NotFound, FailedPrecondition.
    absl::StatusOr<std::shared_ptr<Entry>> find_live(const std::string& name);
    v1::MigrationReport report_of(const Entry& entry);

    VmRegistry& vms_;
    CalibrationFile& calibration_;
    const Options options_;
    std::mutex mutex_;
    std::condition_variable ended_;                // an entry has ended
    std::vector<std::shared_ptr<Entry>> entries_;  // oldest first; guarded by mutex_
    std::set<std::string> starting_;               // ids that wait for their VM; guarded by mutex_
    std::condition_variable started_;              // one of these is over
    // Forgotten, and not joined yet: no thread can join itself. Guarded by mutex_.
    std::vector<std::shared_ptr<Entry>> retired_;
    std::string own_address_;  // guarded by mutex_
    FixedCosts fixed_costs_;   // guarded by mutex_
};

}  // namespace godwit
