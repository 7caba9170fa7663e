// Peer: a QEMU that runs the guest by itself, without an agent, and its QMP.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/lab/child.h"
#include "bench/lab/cpu_time.h"
#include "bench/lab/event_board.h"
#include "bench/lab/peer_argv.h"
#include "engine/base/status.h"
#include "engine/guest/qemu/qmp_client.h"

namespace godwit {

// Killed at the end. Thread rule: one thread.
class Peer {
  public:
    // `setup.qmp_fd` is filled in here. Its events go to `board`, which must outlive it. Errors:
    // those of starting it; what QEMU says when it ends at once.
    static absl::StatusOr<std::unique_ptr<Peer>> start(PeerSetup setup, Side side,
                                                       EventBoard& board);

    [[nodiscard]] pid_t pid() const { return process_.pid(); }
    // Errors: QEMU's own, with the last words of its stderr when it has ended.
    absl::StatusOr<Json> command(std::string_view name, Json arguments = Json::object());
    absl::Status set_capabilities(const std::vector<std::string>& names);
    // Where `guest_address` is in the address space of this process.
    absl::StatusOr<uint64_t> host_address(uint64_t guest_address);
    // What it says of a migration that failed; its stderr's end, too.
    std::string complaint();
    // Listens on a free port of `address`; returns the URI to migrate to.
    absl::StatusOr<std::string> listen(const std::string& address);

  private:
    explicit Peer(Child process) : process_(std::move(process)) {}
    absl::Status explain(const absl::Status& status);

    Child process_;
    std::unique_ptr<QmpClient> qmp_;
};

// Of two of them, the second not yet there perhaps.
absl::StatusOr<CpuSeconds> cpu_of_both(const std::unique_ptr<Peer>& source,
                                       const std::unique_ptr<Peer>& destination);

// "Host virtual address for 0x200000 (ram0) is 0x7f12…": HMP's gpa2hva. Error: Internal.
absl::StatusOr<uint64_t> parse_host_address(std::string_view answer);
// The URI of query-migrate's "socket-address" member. Error: Internal.
absl::StatusOr<std::string> parse_listening_uri(const Json& migration);

}  // namespace godwit
