// What the lab says to libvirt, and what virsh and the kernel answer: text only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/lab/engine_name.h"
#include "bench/lab/event_board.h"
#include "bench/lab/peer_argv.h"
#include "bench/lab/statistics.h"
#include "engine/base/units.h"

namespace godwit {

// A transient domain that runs the guest by `qemu`, with private memory, which is QEMU's best case,
// and no device that peer_argv() does not have.
std::string lab_domain_xml(const std::string& name, const std::string& qemu,
                           const GuestConfig& guest);

// The words behind `virsh migrate DOMAIN DESTINATION`; `bandwidth` 0: unlimited.
std::vector<std::string> libvirt_migrate_flags(const EngineName& name, Bytes bandwidth);

// Lines of `virsh qemu-monitor-event --loop` about `domain`: "event STOP at 1764000000.123456 for
// domain 'lab1': <null>". A line that is not whole is left out. `at` is not set.
std::vector<SeenEvent> parse_monitor_events(const std::string& text, const std::string& domain,
                                            Side side);

// Where the private memory of a guest of this size begins, by /proc/PID/maps: its only anonymous
// mapping of exactly that size.
std::optional<uint64_t> find_private_ram(const std::string& maps, Bytes size);

// `virsh domjobinfo --completed --rawstats` by the lab's names; what it does not say is absent.
Metrics libvirt_metrics(const std::string& raw_stats);

}  // namespace godwit
