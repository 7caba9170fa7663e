// What one outgoing migration was asked to do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "engine/model/convergence.h"
#include "transport/control/peer.h"
#include "transport/stream/page_sender.h"

namespace godwit {

inline constexpr Bytes kDefaultDeltaCacheBytes = Bytes{64} << 20;

// As many as help: AutoStreams.
inline constexpr uint16_t kAutoStreams = 0;

struct MigrationSettings {
    std::string id;
    HostPort destination;
    std::string tracker = "auto";  // or "uffd-wp", "kvm-dirty-log"
    ConvergenceLimits limits;
    Duration finish_by{};  // after the start; 0: no deadline
    // Ready, it waits so long for proceed() and then ends at the source; 0: it never waits.
    Duration hold_limit{};
    Bytes bandwidth_bytes_per_s = 0;  // 0: unlimited
    uint16_t streams = kAutoStreams;
    std::string congestion_control;             // of TcpOptions
    std::vector<std::string> source_addresses;  // of SourceStreams::Target
    Compression compression = Compression::kAuto;
    // Of RoundSender::Options.
    Bytes delta_cache_bytes = kDefaultDeltaCacheBytes;
    bool page_hashes = true;
    bool verify = false;
    // Of a domain of libvirt: its definition goes along; its definition here is removed.
    bool with_definition = false;
    bool undefine_source = false;
    // Also where a disk is surely not the same at the destination, and of NativeMove.
    bool unsafe = false;
    // A VM that Godwit can't move goes by its hypervisor's own migration.
    bool native_fallback = false;
    std::string native_destination;  // of NativeMove
    std::string native_data;
    // Off only in the test that shows why it is needed: pages that a disk may still be writing are
    // then not read again after the drain.
    bool track_unsettled = true;
    // A freeze that takes longer is undone by the guard. Far above any downtime that anybody wants:
    // the guard is for agents that hang, not for slow links.
    Duration freeze_limit = std::chrono::seconds(10);
};

// Whether the guest may come to resume before its last pages are there: the destination must be
// able to do that.
bool may_use_postcopy(const MigrationSettings& settings);
// Whether the vCPUs may come to be held back: somebody must be able to do that.
bool may_throttle(const MigrationSettings& settings);

// What is said of a migration that is ready and waits to be told to proceed.
std::string held_text(const std::string& id);
// "the bandwidth is limited to 1.00 MiB/s", or that it is not.
std::string limit_text(Bytes bytes_per_second);
// Errors: InvalidArgument for a limit with which nothing would ever arrive. 0 is none.
absl::Status check_bandwidth(Bytes bytes_per_second);

std::string_view compression_name(Compression compression);
// Errors: InvalidArgument, with the names that there are.
absl::StatusOr<Compression> parse_compression(std::string_view name);

std::string_view strategy_name(Strategy strategy);
// Errors: InvalidArgument, with the names that there are.
absl::StatusOr<Strategy> parse_strategy(std::string_view name);

inline constexpr Bytes kLeastBandwidth = 1024;  // a second
inline constexpr Bytes kMaxDeltaCacheBytes = Bytes{1} << 40;
inline constexpr uint16_t kMaxDataStreams = 16;
inline constexpr uint32_t kMaxRounds = 1000;

}  // namespace godwit
