// ResidentClient: the agent's side of the resident, the library in QEMU that runs KVM's dirty log
// and the vCPU throttle for it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "dirty-tracking/resident/protocol.h"
#include "dirty-tracking/resident/shared_bitmaps.h"
#include "engine/base/clock.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/ram_block.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

struct ResidentState {
    bool has_kvm = false;
    bool manual_protect = false;
    bool initially_set = false;
    bool dirty_ring = false;
    bool log_on = false;
    uint32_t slots = 0;
    uint32_t tracked_slots = 0;     // logged for us
    uint32_t unmappable_slots = 0;  // RAM that KVM has through QEMU's own view
    uint32_t vcpus = 0;
    uint32_t held_percent = 0;
    uint64_t holds = 0;   // times that a vCPU was held back
    uint64_t kicks = 0;   // times that one was made to leave the guest for it
    std::string problem;  // why KVM's log can't be used; empty: it can
};

// The same bytes of a RAM file at two addresses in QEMU.
struct ResidentView {
    dev_t device = 0;
    ino_t inode = 0;
    Bytes offset = 0;
    Bytes length = 0;
    uint64_t kvm_address = 0;   // view A: vCPUs
    uint64_t qemu_address = 0;  // view B: everybody else
};

struct ResidentSlot {
    uint32_t id = 0;
    uint32_t address_space = 0;  // 1: system management mode
    uint64_t guest_address = 0;
    Bytes length = 0;
    dev_t device = 0;  // of the RAM file; 0 when KVM has no view A of it
    ino_t inode = 0;
    Bytes offset = 0;
    uint32_t flags = 0;  // as QEMU set them
    resident::SlotKind kind = resident::SlotKind::kNotRam;
    bool tracked = false;
};

// kDiscardsOnly: only what QEMU discards (balloon, free-page reporting), with any accelerator.
enum class ResidentLog { kKvm, kDiscardsOnly };

// One connection; the resident serves two, and the log and the throttle belong to whichever began
// them. When that is closed (by the destructor, by the death of either side) they end by
// themselves.
//
// Thread-safe, but the rules of DirtyTracker hold for the log: rearm() from several threads, not
// during another call. Errors of every call: FailedPrecondition (what the resident can't do, and
// why), Unavailable (the connection is lost, and with it log and throttle), DeadlineExceeded
// (the connection is then given up).
class ResidentClient {
  public:
    // `pid` is QEMU's. Errors: NotFound when the library is not in the process (LD_PRELOAD
    // stripped) or its socket has gone; FailedPrecondition when it speaks another protocol version
    // or two connections are there already; InvalidArgument when the path is too long for a socket.
    static absl::StatusOr<std::unique_ptr<ResidentClient>> connect(
        const std::string& socket_path, pid_t pid, Duration deadline = std::chrono::seconds(2));

    // The same on a socket that is connected already, whoever is at its other end.
    static absl::StatusOr<std::unique_ptr<ResidentClient>> greet(UniqueFd socket,
                                                                 Duration deadline);

    ResidentClient(const ResidentClient&) = delete;
    ResidentClient& operator=(const ResidentClient&) = delete;

    absl::StatusOr<ResidentState> state();
    absl::StatusOr<std::vector<ResidentView>> views();
    absl::StatusOr<std::vector<ResidentSlot>> slots();

    // Arms all that vCPUs write through view A of these blocks (kKvm), and begins to note discards.
    // A second start begins anew. After an error nothing is logged.
    absl::Status start_log(std::span<const RamBlock> blocks, ResidentLog kind = ResidentLog::kKvm);
    // Adds the pages written or discarded since they were last armed; arms none. `dirty` has the
    // shape of start_log's blocks (else InvalidArgument). A page that was not armed since comes
    // again with the next collect.
    absl::Status collect(PageSet& dirty);
    // Arms what the last collect found in this range. To be called before the range is read.
    absl::Status rearm(BlockIndex block, PageRange range);
    absl::Status stop_log();

    // Holds every vCPU back for this share of each period (10 ms to 1 min); 0 lets go at once.
    absl::Status set_throttle(unsigned held_percent,
                              std::chrono::milliseconds period = std::chrono::milliseconds(10));

  private:
    explicit ResidentClient(UniqueFd socket, Duration deadline)
        : socket_(std::move(socket)), deadline_(deadline) {}

    absl::Status receive_greeting();
    // Sends a request and waits for its reply of exactly this length.
    absl::Status ask(void* request, size_t request_bytes, void* reply, size_t reply_bytes,
                     Duration deadline, int memory = -1);
    absl::Status ask_simply(void* request, size_t request_bytes, Duration deadline,
                            int memory = -1);
    absl::Status send_message(const void* message, size_t bytes, int memory);
    absl::Status receive_message(void* message, size_t bytes, MonotonicTime deadline);
    template <typename Row, typename Visit>
    absl::Status list(resident::Kind kind, Visit&& visit);

    std::mutex mutex_;
    UniqueFd socket_;  // invalid once the connection is lost
    Duration deadline_;
    SharedBitmaps bitmaps_;
};

}  // namespace godwit
