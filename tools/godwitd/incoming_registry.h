// IncomingRegistry: incoming migrations of this agent, waiting, here, or refused.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "engine/destination/incoming_migration.h"
#include "tools/godwitd/vm_registry.h"

namespace godwit {

// Why Prepare was refused: a word for programs, and whether anything was touched.
struct PrepareRefusal {
    std::string reason;
    absl::Status status;
};

// Thread-safe.
class IncomingRegistry {
  public:
    struct Options {
        std::string state_dir;
        std::string listen_host;
        RingKind ring = RingKind::kIoUring;
        ThreadPlacement placement;
        std::string hypervisor_version;
        bool overcommit = false;  // takes VMs that are larger than the host
        StepHook at_step = no_hook;
    };
    IncomingRegistry(VmRegistry& vms, Hypervisor& hypervisor, Options options)
        : vms_(vms), hypervisor_(hypervisor), options_(std::move(options)) {}
    // Aborts what waits.
    ~IncomingRegistry();

    // Finishes or refuses what an earlier agent had begun. Call once, after the VMs were adopted.
    void recover();

    // Fills `response`, or says why not.
    PrepareRefusal prepare(const v1::PrepareRequest& request, v1::PrepareResponse& response);
    absl::Status abort(const std::string& id, const std::string& reason);
    v1::QueryResponse query(const std::string& id);
    // Lets the source of a drain come with new streams. An unknown id has the state UNKNOWN.
    v1::ReconnectResponse reconnect(const std::string& id);

    // Whether its guest is here and pages of it are missing.
    bool is_draining(const std::string& id);

    // Lets go of what has ended: its threads, its buffers, and its hold on the RAM file.
    void sweep();

    // Answers that are kept for sources that still ask; the oldest go first.
    static constexpr size_t kMaxEnded = 10'000;

  private:
    // Fills response.disks() in.
    PrepareRefusal check(const v1::PrepareRequest& request, v1::PrepareResponse& response);
    PrepareRefusal prepare_new(const v1::PrepareRequest& request, v1::PrepareResponse& response);
    std::shared_ptr<Vm> vm_of(const v1::JournalRecord& record);
    void recover_one(v1::JournalRecord record);
    void note_lost(const v1::JournalRecord& record);
    bool was_given_back(const v1::JournalRecord& record, Vm& vm);
    void end_stale(v1::JournalRecord record, Vm* vm, const std::string& why);
    void recover_committed(v1::JournalRecord record, const std::shared_ptr<Vm>& vm);
    void recover_drain(v1::JournalRecord record, const std::shared_ptr<Vm>& vm);
    absl::Status take_up_drain(const v1::JournalRecord& record, const std::shared_ptr<Vm>& vm);
    void take_up_drain_again(v1::JournalRecord record, const std::shared_ptr<Vm>& vm,
                             const std::stop_token& stop);
    // Takes `incoming` in, unless its memory mounts are too small for it and those on their way.
    absl::Status admit(const v1::PrepareRequest& request,
                       const std::shared_ptr<IncomingMigration>& incoming);
    IncomingMigration::Dependencies dependencies_of(const std::string& id);
    void note_arrival(v1::JournalRecord record, Vm& vm);
    void resume_committed(v1::JournalRecord record, Vm& vm, const std::stop_token& stop);
    // Whether nobody may come beside those that are here or being prepared, but for that one.
    [[nodiscard]] bool is_full(const std::string& but_for) const;  // under mutex_
    void settle(v1::JournalRecord record, v1::JournalPhase phase, const std::string& detail);
    void keep_answer(const std::string& id, const v1::QueryResponse& answer);  // under mutex_

    VmRegistry& vms_;
    Hypervisor& hypervisor_;
    const Options options_;
    std::mutex mutex_;
    // Guarded by mutex_:
    std::map<std::string, std::shared_ptr<IncomingMigration>> incoming_;
    std::map<std::string, Bytes> touched_;  // by id, of those of incoming_ that were prepared here
    std::set<std::string> preparing_;       // ids
    std::set<std::string> recovering_;      // drains that could not be taken up yet
    std::map<std::string, v1::QueryResponse> ended_;
    std::deque<std::string> ended_order_;  // oldest first

    std::vector<std::jthread> resumers_;  // made by recover(), joined at the end
};

}  // namespace godwit
